# status: ok
# stdout: rank: 3 shape: (8, 8)

import numpy as np

rng = np.random.default_rng(0)
A = rng.standard_normal((8, 3)) @ rng.standard_normal((3, 8))
s = np.linalg.svd(A, compute_uv=False)
print("rank:", int((s > 1e-10).sum()), "shape:", A.shape)
