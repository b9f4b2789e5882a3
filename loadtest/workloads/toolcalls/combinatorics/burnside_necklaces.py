# status: ok
# stdout: 130 92
# stdout: [2, 3, 4, 6, 8, 14, 20, 36, 60, 108, 188, 352]

from math import gcd
from itertools import product

def necklaces(n, k):
    return sum(k**gcd(i, n) for i in range(n))//n

def bracelets_brute(n, k):
    seen = set()
    for w in product(range(k), repeat=n):
        rots = [w[i:] + w[:i] for i in range(n)]
        seen.add(min(rots + [r[::-1] for r in rots]))
    return len(seen)

print(necklaces(6, 3), bracelets_brute(6, 3))
print([necklaces(n, 2) for n in range(1, 13)])
