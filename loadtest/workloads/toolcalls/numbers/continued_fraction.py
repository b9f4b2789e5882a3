# status: ok
# stdout: 2 [1, 2]
# stdout: 7 [2, 1, 1, 1, 4]
# stdout: 13 [3, 1, 1, 1, 1, 6]
# stdout: 61 [7, 1, 4, 3, 1, 2, 2, 1, 3, 4, 1, 14]
# stdout: 94 [9, 1, 2, 3, 1, 1, 5, 1, 8, 1, 5, 1, 1, 3, 2, 1, 18]

from fractions import Fraction
from math import isqrt

def cf_sqrt(n):
    a0 = isqrt(n)
    m, d, a = 0, 1, a0
    out = [a0]
    while a != 2*a0:
        m = d*a - m
        d = (n - m*m)//d
        a = (a0 + m)//d
        out.append(a)
    return out

for n in (2, 7, 13, 61, 94):
    print(n, cf_sqrt(n))
