# status: ok
# truncated: stdout
# stdout_sha256: 5cfb7105749f4bac5971fa822e735b2226766a728783f65d0b1892c322bec7f6

import numpy as np

np.set_printoptions(threshold=10**7, linewidth=120, suppress=True)
rng = np.random.default_rng(1)
print(rng.integers(0, 1000, size=(130, 130)))
