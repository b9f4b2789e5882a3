# status: ok
# stdout_sha256: 177469db70c5e90c5a89bc650d0449bf4e37502eb1c60787874fa62ea7522dc0

from collections import Counter
from itertools import product

c = Counter(sum(t) for t in product(range(1, 7), repeat=4))
for s in range(4, 25):
    print(f"{s:2d} {c[s]:4d} {'#'*(c[s]//4)}")
