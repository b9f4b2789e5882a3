# status: ok
# stdout: [1, 1, 2, 5, 14, 42, 132, 429, 1430, 4862, 16796, 58786]
# stdout: verified

from math import comb
from functools import lru_cache

@lru_cache(None)
def tri(n):
    # triangulations of a convex polygon with n + 2 sides
    if n <= 1:
        return 1
    return sum(tri(i)*tri(n - 1 - i) for i in range(n))

print([tri(n) for n in range(12)])
assert all(tri(n) == comb(2*n, n)//(n + 1) for n in range(12))
print("verified")
