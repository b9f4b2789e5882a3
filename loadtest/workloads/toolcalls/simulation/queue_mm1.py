# status: ok
# stdout: theory: 4.0
# stdout: simulated: 4.0

import random

random.seed(11)
lam, mu = 0.8, 1.0
t = depart = 0.0
wait = 0.0
n = 50000
for _ in range(n):
    t += random.expovariate(lam)
    begin = max(t, depart)
    wait += begin - t
    depart = begin + random.expovariate(mu)
print("theory:", round(lam/(mu*(mu - lam)), 2))
print("simulated:", round(wait/n, 1))
