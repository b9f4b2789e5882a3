# status: ok
# stdout: (x - 4)*(x - 3)*(x + 3)*(x + 4)
# stdout: [-4, -3, 3, 4]

from sympy import symbols, resultant, factor, Poly, real_roots

x, y = symbols('x y')
f = x**2 + y**2 - 25
g = x*y - 12
r = resultant(f, g, y)
print(factor(r))
xs = real_roots(Poly(r, x))
print(sorted(set(xs)))
