# status: ok
# stdout: 5.0

import numpy as np

A = np.array([[4.0, 1.0], [2.0, 3.0]])
v = np.array([1.0, 0.0])
for k in range(40):
    v = A @ v
    v /= np.linalg.norm(v)
lam = v @ A @ v
print(round(float(lam), 8))
