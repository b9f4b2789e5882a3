# status: ok
# stdout: 26623 308

from functools import lru_cache
import sys
sys.setrecursionlimit(10000)

@lru_cache(maxsize=None)
def length(n):
    return 1 if n == 1 else 1 + length(n//2 if n % 2 == 0 else 3*n + 1)

best = max(range(1, 30000), key=length)
print(best, length(best))
