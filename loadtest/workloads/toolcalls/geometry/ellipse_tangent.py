# status: ok
# stdout: [-sqrt(13), sqrt(13)]

from sympy import symbols, solve, diff, Eq, simplify, sqrt

x, y, m, k = symbols('x y m k', real=True)
# lines y = m x + k with m = 1 tangent to x^2/9 + y^2/4 = 1
expr = (x**2/9 + (x + k)**2/4 - 1)
from sympy import discriminant
ks = solve(discriminant(expr, x), k)
print(ks)
