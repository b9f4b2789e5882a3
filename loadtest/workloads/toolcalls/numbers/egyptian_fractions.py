# status: ok
# stdout: 4/13 [4, 18, 468]
# stdout: 5/121 [25, 757, 763309, 873960180913, 1527612795642093418846225]
# stdout: 7/15 [3, 8, 120]

from fractions import Fraction
from math import ceil

def greedy(f):
    out = []
    while f:
        d = ceil(1/f)
        out.append(d)
        f -= Fraction(1, d)
    return out

for f in (Fraction(4, 13), Fraction(5, 121), Fraction(7, 15)):
    print(f, greedy(f))
