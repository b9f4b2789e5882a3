# status: ok
# stdout: 2425 17017
# stdout: [3, 5, 7, 11]

from sympy.ntheory.modular import crt

m = [7, 11, 13, 17]
r = [3, 5, 7, 11]
x, M = crt(m, r)
print(x, M)
print([x % k for k in m])
