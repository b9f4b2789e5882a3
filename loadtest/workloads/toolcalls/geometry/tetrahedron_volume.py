# status: ok
# stdout: 2.6666666667 2.6666666667

import numpy as np

P = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float)
M = P[1:] - P[0]
V = abs(np.linalg.det(M))/6
edge = np.linalg.norm(P[0] - P[1])
print(round(V, 10), round(edge**3/(6*np.sqrt(2)), 10))
