# status: ok
# stdout: closest pair squared distance: 0
# stdout: (60, 60) int64

import numpy as np

rng = np.random.default_rng(42)
P = rng.integers(0, 50, size=(60, 2))
D = ((P[:, None, :] - P[None, :, :])**2).sum(-1)
D[np.diag_indices(60)] = 10**9
i, j = np.unravel_index(D.argmin(), D.shape)
print("closest pair squared distance:", int(D.min()))
print(D.shape, D.dtype)
