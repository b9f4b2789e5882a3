# status: ok
# stdout: 315 315

from itertools import product
from math import comb

# x1+x2+x3+x4 = 20 with 1 <= xi <= 8
count = sum(1 for t in product(range(1, 9), repeat=4) if sum(t) == 20)
ie = sum((-1)**k*comb(4, k)*comb(20 - 8*k - 1, 3) for k in range(0, 3) if 20 - 8*k >= 4)
print(count, ie)
