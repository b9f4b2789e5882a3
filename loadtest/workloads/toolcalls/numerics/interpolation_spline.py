# status: ok
# stdout: max error < 1e-3: True
# stdout: 2.0

import numpy as np
from scipy.interpolate import CubicSpline

x = np.linspace(0, np.pi, 9)
cs = CubicSpline(x, np.sin(x))
t = np.linspace(0, np.pi, 101)
err = np.max(np.abs(cs(t) - np.sin(t)))
print("max error < 1e-3:", bool(err < 1e-3))
print(round(float(cs.integrate(0, np.pi)), 4))
