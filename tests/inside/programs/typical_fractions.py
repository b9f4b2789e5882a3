from fractions import Fraction
from itertools import permutations, combinations
from collections import Counter, defaultdict
from math import gcd, comb, isqrt
print(sum(Fraction(1, n) for n in range(1, 20)), Counter("mississippi"), comb(40, 20))
print(sum(1 for p in permutations(range(6)) if all(p[i] != i for i in range(6))))
