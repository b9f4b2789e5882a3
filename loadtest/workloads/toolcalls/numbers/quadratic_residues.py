# status: ok
# stdout: [1, 4, 6, 9, 10, 11, 13, 14, 15, 16, 17, 21, 23, 24, 25, 31, 35, 36, 38, 40, 41]
# stdout: True
# stdout: [5, 13, 17, 29, 37, 41, 53, 61, 73, 89, 97]

from sympy import legendre_symbol, primerange

p = 43
qr = sorted({x*x % p for x in range(1, p)})
print(qr)
print(all((legendre_symbol(a, p) == 1) == (a in qr) for a in range(1, p)))
print([p for p in primerange(3, 100) if pow(-1 % p, (p - 1)//2, p) == 1])
