# status: ok
# stdout: [1. 2. 4.]
# stdout: True

import numpy as np

A = np.array([[2, 1, 0], [1, 3, 1], [0, 1, 2]], dtype=float)
w, V = np.linalg.eigh(A)
print(np.round(w, 8))
print(np.allclose(A @ V, V*w))
