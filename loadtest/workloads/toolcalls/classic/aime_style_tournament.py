# status: ok
# stdout: n = 3: brute force 1/4, formula 1/4, equal: True, score sequences: 2
# stdout: n = 4: brute force 3/8, formula 3/8, equal: True, score sequences: 4
# stdout: n = 5: brute force 17/32, formula 17/32, equal: True, score sequences: 9
# stdout: n = 6: brute force 175/256, formula 175/256, equal: True, score sequences: 22
# stdout: score sequences of five teams and how often each occurs:
# stdout:     (1, 2, 2, 2, 3) 280
# stdout:     (1, 1, 2, 3, 3) 240
# stdout:     (0, 1, 2, 3, 4) 120
# stdout:     (0, 2, 2, 3, 3) 120
# stdout:     (1, 1, 2, 2, 4) 120
# stdout:     (0, 1, 3, 3, 3) 40
# stdout:     (0, 2, 2, 2, 4) 40
# stdout:     (1, 1, 1, 3, 4) 40
# stdout:     (2, 2, 2, 2, 2) 24
# stdout: Landau's condition gives the same set: True
# stdout: expected number of cyclic triples: 5/2 = 5/2
# stdout: answer: 49

# In a round-robin tournament of 5 teams each game is won by either team with probability 1/2. Find the probability
# that there is neither an undefeated nor a winless team (m/n; report m + n), then generalise and cross-check.
from fractions import Fraction
from itertools import combinations, product
from math import comb


def brute_force(n):
    """Count the outcomes directly; feasible up to n = 6 (2^15 outcomes)."""
    games = list(combinations(range(n), 2))
    good = 0
    score_sequences = {}
    for outcome in product((0, 1), repeat=len(games)):
        wins = [0]*n
        for (a, b), first_wins in zip(games, outcome):
            wins[a if first_wins else b] += 1
        key = tuple(sorted(wins))
        score_sequences[key] = score_sequences.get(key, 0) + 1
        if n - 1 not in wins and 0 not in wins:
            good += 1
    return Fraction(good, 2**len(games)), score_sequences


def inclusion_exclusion(n):
    """At most one team can be undefeated and at most one winless."""
    undefeated = Fraction(n, 2**(n - 1))
    winless = Fraction(n, 2**(n - 1))
    both = Fraction(n*(n - 1), 2**(2*n - 3))
    return 1 - undefeated - winless + both


for n in range(3, 7):
    exact, sequences = brute_force(n)
    formula = inclusion_exclusion(n)
    print(f"n = {n}: brute force {exact}, formula {formula}, equal: {exact == formula}, "
          f"score sequences: {len(sequences)}")

p, sequences = brute_force(5)
print("score sequences of five teams and how often each occurs:")
for key in sorted(sequences, key=lambda k: (-sequences[k], k)):
    print("   ", key, sequences[key])

# Landau's theorem: a sequence is a score sequence iff the partial sums are at least C(k, 2), with equality at the end
def landau(key):
    partial = 0
    for k, s in enumerate(key, 1):
        partial += s
        if partial < comb(k, 2):
            return False
    return partial == comb(len(key), 2)


candidates = [k for k in product(range(5), repeat=5) if list(k) == sorted(k) and landau(k)]
print("Landau's condition gives the same set:", set(candidates) == set(sequences))

# number of 3-cycles from the scores alone
def cycles(key):
    n = len(key)
    return comb(n, 3) - sum(comb(s, 2) for s in key)


expected = sum(Fraction(c*cycles(k), 2**10) for k, c in sequences.items())
print("expected number of cyclic triples:", expected, "=", Fraction(comb(5, 3), 4))
print("answer:", p.numerator + p.denominator)
