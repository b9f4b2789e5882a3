# status: failed
# last_error: KeyError: (3, 4, 5)
# stdout: perimeter with most triples up to 300: 240 [(15, 112, 113), (40, 96, 104), (48, 90, 102), (60, 80, 100)]
# stdout: primitive ones: 20
# stdout: perimeter 1000: [(200, 375, 425)] product: 31875000
# stdout: Euclid's formula gives the same set: True
# stdout: smallest area: (3, 4, 5) 6
# stdout: inradius at most 3: [(3, 4, 5), (5, 12, 13), (7, 24, 25), (8, 15, 17)]
# stdout: repeated perimeters: []

# Brute force over a, b, c with a + b + c = 1000 and a^2 + b^2 = c^2, then look up a table that I forgot to fill.
import math
from collections import defaultdict


def triples(perimeter):
    """All Pythagorean triples with the given perimeter."""
    out = []
    for a in range(1, perimeter//3 + 1):
        for b in range(a, (perimeter - a)//2 + 1):
            c = perimeter - a - b
            if a*a + b*b == c*c:
                out.append((a, b, c))
    return out


def primitive(t):
    return math.gcd(math.gcd(t[0], t[1]), t[2]) == 1


by_perimeter = defaultdict(list)
for p in range(12, 301, 2):
    for t in triples(p):
        by_perimeter[p].append(t)

best = max(by_perimeter, key=lambda p: len(by_perimeter[p]))
print("perimeter with most triples up to 300:", best, by_perimeter[best])
print("primitive ones:", sum(primitive(t) for ts in by_perimeter.values() for t in ts))

t = triples(1000)
print("perimeter 1000:", t, "product:", math.prod(t[0]))

# Euclid's formula: every primitive triple has the form (m^2 - n^2, 2mn, m^2 + n^2)
euclid = set()
for m in range(2, 13):
    for n in range(1, m):
        if (m - n) % 2 and math.gcd(m, n) == 1:
            a, b, c = sorted((m*m - n*n, 2*m*n, m*m + n*n))
            if a + b + c <= 300:
                euclid.add((a, b, c))
brute = {t for ts in by_perimeter.values() for t in ts if primitive(t)}
print("Euclid's formula gives the same set:", euclid == brute)

# areas
areas = {t: t[0]*t[1]//2 for t in brute}
smallest = min(areas, key=areas.get)
print("smallest area:", smallest, areas[smallest])

# inradius of each primitive triple is (a + b - c)/2, an integer
inradii = {t: (t[0] + t[1] - t[2])//2 for t in brute}
print("inradius at most 3:", sorted(t for t, r in inradii.items() if r <= 3))

# perimeters that occur more than once among the primitive ones (none that small, I believe)
from collections import Counter
repeated = [p for p, k in Counter(sum(t) for t in brute).items() if k > 1]
print("repeated perimeters:", repeated)

# and the circumradius ... which I have stored, have I not?
circumradii = {}
for t in sorted(brute)[:3]:
    print(t, "R =", circumradii[t])
