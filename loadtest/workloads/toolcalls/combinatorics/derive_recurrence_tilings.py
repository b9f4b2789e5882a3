# status: ok
# stdout: 1 [0, 1, 0, 1, 0]
# stdout: 2 [1, 2, 3, 5, 8]
# stdout: 3 [0, 3, 0, 11, 0]
# stdout: 4 [1, 5, 11, 36, 95]
# stdout: a: [1, 3, 11, 41, 153, 571, 2131, 7953]
# stdout: matches brute force: True
# stdout: 3 x 40: 216695104121 mod p: 695102609
# stdout: recurrence coefficients: 4 -1
# stdout: profile DP agrees: True

# Number of tilings of a 3 x n board with dominoes, by a broken-profile DP; guess the recurrence and verify it.
# The question asks for the number of tilings of a 3 x 40 board modulo 10^9 + 7.
from fractions import Fraction
from functools import lru_cache


def tilings(rows, cols):
    """Broken-profile dynamic programming over cells in column-major order."""
    states = {0: 1}
    for _ in range(cols):
        for r in range(rows):
            following = {}
            for mask, ways in states.items():
                bit = 1 << r
                if mask & bit:
                    # the cell is covered by a horizontal domino from the previous column
                    key = mask & ~bit
                    following[key] = following.get(key, 0) + ways
                else:
                    # lay a horizontal domino that sticks out to the next column
                    key = mask | bit
                    following[key] = following.get(key, 0) + ways
                    # or a vertical one, if the cell below is free and inside
                    if r + 1 < rows and not mask & (bit << 1):
                        key = mask | (bit << 1)
                        following[key] = following.get(key, 0) + ways
            states = {m: w for m, w in following.items()}
    return states.get(0, 0)


# The profile above marks "covered" for the next row with the same bit, so check it against brute force first.
@lru_cache(None)
def brute(cells, rows, cols):
    if not cells:
        return 1
    c, r = min(cells)
    total = 0
    for other in ((c + 1, r), (c, r + 1)):
        if other in cells:
            total += brute(cells - {(c, r), other}, rows, cols)
    return total


def brute_count(rows, cols):
    return brute(frozenset((c, r) for c in range(cols) for r in range(rows)), rows, cols)


for rows in range(1, 5):
    print(rows, [brute_count(rows, cols) for cols in range(1, 6)])

# linear recurrence for the 3 x 2k board: a_k = 4 a_{k-1} - a_{k-2}
a = [1, 3]
while len(a) <= 20:
    a.append(4*a[-1] - a[-2])
print("a:", a[:8])
print("matches brute force:", [brute_count(3, 2*k) for k in range(4)] == a[:4])
print("3 x 40:", a[20], "mod p:", a[20] % (10**9 + 7))

# solve for the two coefficients from the data instead of guessing them
b = [brute_count(3, 2*k) for k in range(5)]
det = b[1]*b[1] - b[0]*b[2]
p = Fraction(b[2]*b[1] - b[0]*b[3], det)
q = Fraction(b[1]*b[3] - b[2]*b[2], det)
print("recurrence coefficients:", p, q)
print("profile DP agrees:", [tilings(3, c) for c in range(7)] == [brute_count(3, c) for c in range(7)])
