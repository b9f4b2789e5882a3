# status: ok
# stdout: 60 52 4

import cmath, math

# regular 12-gon: how many triangles of vertices are right-angled? isosceles?
from itertools import combinations
n = 12
pts = [cmath.exp(2j*math.pi*k/n) for k in range(n)]
right = iso = equi = 0
for t in combinations(range(n), 3):
    gaps = sorted([(t[1] - t[0]), (t[2] - t[1]), n - (t[2] - t[0])])
    right += 6 in gaps
    iso += len(set(gaps)) <= 2
    equi += len(set(gaps)) == 1
print(right, iso, equi)
