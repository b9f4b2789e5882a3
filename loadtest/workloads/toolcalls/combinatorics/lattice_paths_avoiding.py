# status: ok
# stdout: 620 1716

from functools import lru_cache
from math import comb

blocked = {(2, 2), (4, 3)}

@lru_cache(None)
def paths(x, y):
    if (x, y) in blocked or x < 0 or y < 0:
        return 0
    if (x, y) == (0, 0):
        return 1
    return paths(x - 1, y) + paths(x, y - 1)

print(paths(7, 6), comb(13, 6))
