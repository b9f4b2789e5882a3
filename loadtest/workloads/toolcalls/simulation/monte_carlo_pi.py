# status: ok
# stdout: 3.13886

import random

random.seed(12345)
N = 200_000
inside = sum(random.random()**2 + random.random()**2 <= 1 for _ in range(N))
print(4*inside/N)
