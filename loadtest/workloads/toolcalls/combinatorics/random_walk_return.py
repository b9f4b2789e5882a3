# status: ok
# stdout: 1 1/2 1/2
# stdout: 2 3/8 1/8
# stdout: 3 5/16 1/16
# stdout: 4 35/128 5/128
# stdout: 5 63/256 7/256
# stdout: 6 231/1024 21/1024

from fractions import Fraction
from math import comb

# probability that a simple symmetric walk of 2n steps returns to 0 for the first time at the end
def u(n):
    return Fraction(comb(2*n, n), 4**n)

def f(n):
    return u(n - 1) - u(n)

for n in range(1, 7):
    print(n, u(n), f(n))
