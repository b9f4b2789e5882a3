# status: ok
# stdout: 34650
# stdout: 60

from itertools import permutations
from math import factorial
from collections import Counter

word = "MISSISSIPPI"
n = factorial(len(word))
for v in Counter(word).values():
    n //= factorial(v)
print(n)
small = "BANANA"
print(len(set(permutations(small))))
