# status: ok
# stdout: 8400
# stdout: 8400

from math import comb
from itertools import product

def onto(n, k):
    return sum((-1)**j*comb(k, j)*(k - j)**n for j in range(k + 1))

print(onto(7, 4))
print(sum(1 for f in product(range(4), repeat=7) if len(set(f)) == 4))
