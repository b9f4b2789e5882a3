# status: ok
# stdout: 1 0 0
# stdout: 2 1 1
# stdout: 3 2 2
# stdout: 4 9 9
# stdout: 5 44 44
# stdout: 6 265 265
# stdout: 7 1854 1854
# stdout: 8 14833 14833

from itertools import permutations
from math import factorial

def brute(n):
    return sum(all(p[i] != i for i in range(n)) for p in permutations(range(n)))

def formula(n):
    return round(factorial(n)*sum((-1)**k/factorial(k) for k in range(n + 1)))

for n in range(1, 9):
    print(n, brute(n), formula(n))
