# status: ok
# stdout: 15125

from functools import lru_cache

dims = (30, 35, 15, 5, 10, 20, 25)

@lru_cache(None)
def cost(i, j):
    if i == j:
        return 0
    return min(cost(i, k) + cost(k + 1, j) + dims[i]*dims[k + 1]*dims[j + 1] for k in range(i, j))

print(cost(0, len(dims) - 2))
