# status: failed
# last_error: numpy.linalg.LinAlgError: Singular matrix

import numpy as np

A = np.array([[1, 2], [2, 4]], dtype=float)
b = np.array([1, 2], dtype=float)
print(np.linalg.solve(A, b))
