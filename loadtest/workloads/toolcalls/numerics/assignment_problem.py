# status: ok
# stdout: [1, 0, 2, 3] 6
# stdout: 6

import numpy as np
from scipy.optimize import linear_sum_assignment
from itertools import permutations

cost = np.array([[4, 1, 3, 7], [2, 0, 5, 3], [3, 2, 2, 8], [6, 4, 9, 1]])
r, c = linear_sum_assignment(cost)
print(c.tolist(), int(cost[r, c].sum()))
print(min(sum(cost[i, p[i]] for i in range(4)) for p in permutations(range(4))))
