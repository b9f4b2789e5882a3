# status: ok
# stdout: 1.20919957615615
# stdout: 1.20919957616

from sympy import symbols, integrate, oo, Rational, simplify, gamma, beta, pi, N
from mpmath import quad, mp, mpf

mp.dps = 20
v = quad(lambda t: t**(mpf(1)/3)/(1 + t)**2, [0, 1, mp.inf])
exact = beta(Rational(4, 3), Rational(2, 3))
print(N(exact, 15))
print(mp.nstr(v, 12))
