# status: ok
# stdout: exact 0.3099
# stdout: plausible: True

import numpy as np

rng = np.random.default_rng(7)
p, start, goal = 0.48, 10, 20
q = 1 - p
exact = (1 - (q/p)**start)/(1 - (q/p)**goal)
wins = 0
for _ in range(500):
    x = start
    while 0 < x < goal:
        x += 1 if rng.random() < p else -1
    wins += x == goal
print(f"exact {exact:.4f}")
print("plausible:", abs(wins/500 - exact) < 0.08)
