# status: ok
# stdout: expected: 147/10 14.7
# stdout: mean of simulation within 0.3: True

import random
from fractions import Fraction

def expected(n):
    return n*sum(Fraction(1, k) for k in range(1, n + 1))

print("expected:", expected(6), float(expected(6)))
random.seed(3)
runs = 4000
total = 0
for _ in range(runs):
    seen = set()
    while len(seen) < 6:
        seen.add(random.randint(1, 6))
        total += 1
print("mean of simulation within 0.3:", abs(total/runs - 14.7) < 0.3)
