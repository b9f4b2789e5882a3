# status: ok
# stdout: (3, 3, 8, 8) ['(8/(3-(8/3)))']
# stdout: (1, 5, 5, 5) ['(5*(5-(1/5)))']
# stdout: (1, 1, 1, 1) []

# All ways to make 24 from 3, 3, 8, 8 with exact arithmetic
from fractions import Fraction
from itertools import combinations

def search(items):
    if len(items) == 1:
        if items[0][0] == 24:
            yield items[0][1]
        return
    for (i, (a, s)), (j, (b, t)) in combinations(enumerate(items), 2):
        rest = [items[k] for k in range(len(items)) if k not in (i, j)]
        options = [(a + b, f"({s}+{t})"), (a - b, f"({s}-{t})"), (b - a, f"({t}-{s})"), (a*b, f"({s}*{t})")]
        if b:
            options.append((a/b, f"({s}/{t})"))
        if a:
            options.append((b/a, f"({t}/{s})"))
        for option in options:
            yield from search(rest + [option])

for numbers in ((3, 3, 8, 8), (1, 5, 5, 5), (1, 1, 1, 1)):
    found = sorted(set(search([(Fraction(n), str(n)) for n in numbers])))
    print(numbers, found[:2])
