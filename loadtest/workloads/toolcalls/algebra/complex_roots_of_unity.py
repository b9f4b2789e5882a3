# status: ok
# stdout: primitive indices: [1, 5, 7, 11]
# stdout: 0.0 0.0

import cmath, math

n = 12
roots = [cmath.exp(2j*math.pi*k/n) for k in range(n)]
primitive = [k for k in range(n) if math.gcd(k, n) == 1]
print("primitive indices:", primitive)
s = sum(roots[k] for k in primitive)
print(round(s.real, 10) + 0.0, abs(round(s.imag, 10)))
