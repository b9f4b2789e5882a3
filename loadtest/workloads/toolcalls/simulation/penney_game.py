# status: ok
# stdout: first  best reply  probability
# stdout: HHH    THH         7/8
# stdout: HHT    THH         3/4
# stdout: HTH    HHT         2/3
# stdout: HTT    HHT         2/3
# stdout: THH    TTH         2/3
# stdout: THT    TTH         2/3
# stdout: TTH    HTT         3/4
# stdout: TTT    HTT         7/8
# stdout: Conway's formula agrees everywhere: True
# stdout: simulation of HHH against THH is near 7/8: True

# Penney's game: for each pair of 3-flip patterns compute the exact probability that the second beats the first, by
# solving the linear system of the Markov chain; then check one entry by simulation with a fixed seed.
import random
from fractions import Fraction
from itertools import product

patterns = ["".join(p) for p in product("HT", repeat=3)]


def next_state(state, flip):
    return (state + flip)[-3:]


def win_probability(a, b):
    """Exact probability that pattern b appears before pattern a."""
    # states: all strings of length 0..3; absorbing at a (0) and b (1)
    states = ["".join(p) for k in range(4) for p in product("HT", repeat=k)]
    index = {s: i for i, s in enumerate(states)}
    n = len(states)
    rows = []
    for s in states:
        row = [Fraction(0)]*(n + 1)
        row[index[s]] = Fraction(1)
        if s == b:
            row[n] = Fraction(1)
        elif s != a:
            for flip in "HT":
                row[index[next_state(s, flip)]] -= Fraction(1, 2)
        rows.append(row)
    # Gaussian elimination over the rationals
    for col in range(n):
        pivot = next((r for r in range(col, n) if rows[r][col] != 0), None)
        if pivot is None:
            continue
        rows[col], rows[pivot] = rows[pivot], rows[col]
        inv = 1/rows[col][col]
        rows[col] = [v*inv for v in rows[col]]
        for r in range(n):
            if r != col and rows[r][col] != 0:
                factor = rows[r][col]
                rows[r] = [x - factor*y for x, y in zip(rows[r], rows[col])]
    return rows[index[""]][n]


def conway(a, b):
    """Conway's leading number algorithm, as an independent check."""
    def lead(x, y):
        return sum(2**(k - 1) for k in range(1, 4) if x[-k:] == y[:k])
    return Fraction(lead(a, a) - lead(a, b), lead(a, a) - lead(a, b) + lead(b, b) - lead(b, a))


print("first  best reply  probability")
for a in patterns:
    best = max((b for b in patterns if b != a), key=lambda b: win_probability(a, b))
    p = win_probability(a, best)
    print(f"{a}    {best}         {p}")
    assert p == conway(a, best), (a, best)
print("Conway's formula agrees everywhere:",
      all(win_probability(a, b) == conway(a, b) for a in patterns for b in patterns if a != b))

random.seed(99)
wins = 0
for _ in range(4000):
    s = ""
    while not s.endswith("HHH") and not s.endswith("THH"):
        s += random.choice("HT")
    wins += s.endswith("THH")
print("simulation of HHH against THH is near 7/8:", abs(wins/4000 - 7/8) < 0.02)
