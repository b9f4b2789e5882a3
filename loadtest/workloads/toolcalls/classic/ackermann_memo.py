# status: ok
# stdout: [[1, 2, 3, 4, 5], [2, 3, 4, 5, 6], [3, 5, 7, 9, 11], [5, 13, 29, 61, 125]]

from functools import lru_cache
import sys

sys.setrecursionlimit(20000)

@lru_cache(None)
def A(m, n):
    if m == 0:
        return n + 1
    if n == 0:
        return A(m - 1, 1)
    return A(m - 1, A(m, n - 1))

print([[A(m, n) for n in range(5)] for m in range(4)])
