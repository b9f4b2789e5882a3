# status: ok
# stdout: 0.028444 0.028444 0.0287

from scipy.stats import binom, norm
from math import comb

exact = sum(comb(100, k) for k in range(60, 101))/2**100
print(f"{exact:.6f} {binom.sf(59, 100, 0.5):.6f} {norm.sf((59.5 - 50)/5):.4f}")
