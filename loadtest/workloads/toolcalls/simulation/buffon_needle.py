# status: ok
# stdout: pi is about 3.14

import math
import random

random.seed(2024)
hits = 0
N = 100000
for _ in range(N):
    y = random.uniform(0, 0.5)
    theta = random.uniform(0, math.pi/2)
    hits += y <= 0.5*math.sin(theta)
est = 2*N/hits
print(f"pi is about {est:.2f}")
