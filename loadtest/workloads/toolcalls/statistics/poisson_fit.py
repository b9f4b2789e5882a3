# status: ok
# stdout: lambda = 0.61
# stdout: 0 109 108.7
# stdout: 1 65 66.3
# stdout: 2 22 20.2
# stdout: 3 3 4.1
# stdout: 4 1 0.6

import math

observed = {0: 109, 1: 65, 2: 22, 3: 3, 4: 1}
n = sum(observed.values())
lam = sum(k*v for k, v in observed.items())/n
print("lambda =", lam)
for k, v in observed.items():
    print(k, v, round(n*math.exp(-lam)*lam**k/math.factorial(k), 1))
