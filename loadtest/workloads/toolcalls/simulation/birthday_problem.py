# status: ok
# stdout: exact 0.5073
# stdout: simulated close: True

import random
from fractions import Fraction

def exact(n):
    p = Fraction(1)
    for i in range(n):
        p *= Fraction(365 - i, 365)
    return 1 - p

rng = random.Random(0)
trials = 5000
hits = sum(len({rng.randrange(365) for _ in range(23)}) < 23 for _ in range(trials))
print(f"exact {float(exact(23)):.4f}")
print("simulated close:", abs(hits/trials - float(exact(23))) < 0.03)
