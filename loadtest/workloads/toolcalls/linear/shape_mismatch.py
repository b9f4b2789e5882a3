# status: failed
# last_error: ValueError: matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature (n?,k),(k,m?)->(n?,m?) (size 3 is different from 4)
# stdout: A: (3, 4) B: (3, 4)

import numpy as np

A = np.ones((3, 4))
B = np.ones((3, 4))
print("A:", A.shape, "B:", B.shape)
print(A @ B)
