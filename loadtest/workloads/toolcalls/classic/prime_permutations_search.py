# status: ok
# stdout: 1487 4817 8147
# stdout: 2969 6299 9629

from sympy import primerange
from collections import defaultdict

groups = defaultdict(list)
for p in primerange(1000, 10000):
    groups["".join(sorted(str(p)))].append(p)
for g in groups.values():
    s = set(g)
    for i, a in enumerate(g):
        for b in g[i + 1:]:
            if 2*b - a in s:
                print(a, b, 2*b - a)
