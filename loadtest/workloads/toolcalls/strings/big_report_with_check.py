# status: ok
# stdout: states: ['', 'A', 'AB', 'C', 'CB']
# stdout:   start  -> ['A', '', 'C']
# stdout:   A      -> ['AB', 'C']
# stdout:   AB     -> ['A', '']
# stdout:   C      -> ['A', 'CB', 'C']
# stdout:   CB     -> ['', 'C']
# stdout: automaton:   [1, 3, 8, 20, 50, 126, 317, 798, 2008]
# stdout: brute force: [1, 3, 8, 20, 50, 126, 317, 798, 2008]
# stdout: numerator: -x**4 + x + 1  denominator: x**5 - x**4 + 2*x**3 - 2*x**2 - 2*x + 1
# stdout: coefficients agree: True
# stdout: answer: 2008

# Solve: how many 8-letter words over {A, B, C} contain neither "AA" nor "ABC" nor "CBA"?
# Three methods: brute force, an Aho-Corasick automaton with a transfer matrix, and the generating function by sympy.
from collections import deque
from itertools import product

from sympy import Matrix, Poly, eye, fraction, series, symbols, together

ALPHABET = "ABC"
FORBIDDEN = ("AA", "ABC", "CBA")


def brute(n):
    return sum(1 for w in map("".join, product(ALPHABET, repeat=n)) if not any(f in w for f in FORBIDDEN))


def automaton(patterns):
    """States are the proper prefixes of the patterns; returns the transitions and the set of dead states."""
    prefixes = [""]
    for p in patterns:
        for k in range(1, len(p) + 1):
            if p[:k] not in prefixes:
                prefixes.append(p[:k])

    def longest_suffix(word):
        for k in range(len(word) + 1):
            if word[k:] in prefixes:
                return word[k:]
        return ""

    dead = {s for s in prefixes if any(s.endswith(p) for p in patterns)}
    moves = {}
    queue = deque([""])
    seen = {""}
    while queue:
        state = queue.popleft()
        for letter in ALPHABET:
            target = longest_suffix(state + letter)
            if target in dead:
                continue
            moves.setdefault(state, []).append(target)
            if target not in seen:
                seen.add(target)
                queue.append(target)
    return moves, sorted(seen)


def count(moves, n):
    states = {"": 1}
    for _ in range(n):
        following = {}
        for s, ways in states.items():
            for t in moves.get(s, ()):
                following[t] = following.get(t, 0) + ways
        states = following
    return sum(states.values())


moves, states = automaton(FORBIDDEN)
print("states:", states)
for s in states:
    print(f"  {s or 'start':6s} -> {moves.get(s)}")

values = [count(moves, n) for n in range(9)]
print("automaton:  ", values)
print("brute force:", [brute(n) for n in range(9)])

# --- generating function: sum over n of (row vector) * (x T)^n * ones ---
x = symbols("x")
index = {s: i for i, s in enumerate(states)}
T = Matrix.zeros(len(states), len(states))
for s, targets in moves.items():
    for t in targets:
        T[index[s], index[t]] += 1
start = Matrix([[1 if s == "" else 0 for s in states]])
ones = Matrix([1]*len(states))
gf = together((start*(eye(len(states)) - x*T).inv()*ones)[0]).cancel()
num, den = fraction(gf)
print("numerator:", Poly(num, x).as_expr(), " denominator:", Poly(den, x).as_expr())
expansion = series(gf, x, 0, 9).removeO()
print("coefficients agree:", [expansion.coeff(x, k) for k in range(9)] == values)
print("answer:", values[8])
