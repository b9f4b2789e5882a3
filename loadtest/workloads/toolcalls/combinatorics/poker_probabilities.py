# status: ok
# limits: wall_s=60 cpu_s=30
# stdout: 201376 1344 224
# stdout: 6/899 1/899

from itertools import combinations
from collections import Counter
from fractions import Fraction

# 5 cards out of a reduced deck: ranks 7..A (8 ranks), 4 suits
deck = [(r, s) for r in range(8) for s in range(4)]
full = total = flush = 0
for hand in combinations(deck, 5):
    total += 1
    ranks = sorted(Counter(r for r, _ in hand).values())
    if ranks == [2, 3]:
        full += 1
    if len({s for _, s in hand}) == 1:
        flush += 1
print(total, full, flush)
print(Fraction(full, total), Fraction(flush, total))
