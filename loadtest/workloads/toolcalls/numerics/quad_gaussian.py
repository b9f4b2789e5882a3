# status: ok
# stdout: 1.7724538509 1.7724538509 True

from scipy.integrate import quad
import numpy as np

v, err = quad(lambda x: np.exp(-x**2), -np.inf, np.inf)
print(round(v, 10), round(np.sqrt(np.pi), 10), err < 1e-6)
