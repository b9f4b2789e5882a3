# status: ok
# stdout: [1.7641 0.4002 0.9787 2.2409 1.8676]
# stdout: [3, 5, 1, 2, 9, 8, 0, 6, 7, 4]

import numpy as np

np.random.seed(0)
x = np.random.randn(5)
print(np.round(x, 4))
print(np.random.permutation(10).tolist())
