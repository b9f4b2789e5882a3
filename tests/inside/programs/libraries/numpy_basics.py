import numpy as np
a = np.arange(12.0).reshape(3, 4)
print(a @ a.T, a.mean(axis=0), a[a > 5], repr(a.dtype))
print(np.linalg.solve(np.array([[2.0, 1], [1, 3]]), [1, 2]), np.linalg.eigvalsh(np.diag([3.0, 1, 2])))
print(np.array2string(np.linspace(0, 1, 5), precision=3), np.array([10**20, 1], dtype=object))
