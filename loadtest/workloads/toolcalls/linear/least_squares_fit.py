# status: ok
# stdout: [3.0, -2.0, 7.0]
# stdout: [3.0, -2.0, 7.0]

import numpy as np

x = np.arange(10)
y = 3*x**2 - 2*x + 7
coef = np.polyfit(x, y, 2)
print([round(float(c), 6) for c in coef])
A = np.vander(x, 3)
sol, *_ = np.linalg.lstsq(A.astype(float), y.astype(float), rcond=None)
print([round(float(c), 6) for c in sol])
