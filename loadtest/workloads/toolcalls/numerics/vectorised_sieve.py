# status: ok
# stdout: 78498 999983 37550402023

import numpy as np

N = 1_000_000
s = np.ones(N + 1, dtype=bool)
s[:2] = False
for i in range(2, int(N**0.5) + 1):
    if s[i]:
        s[i*i::i] = False
p = np.flatnonzero(s)
print(p.size, p[-1], int(p.sum()))
