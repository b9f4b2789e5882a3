# status: ok
# stdout: roots: [1, 2, 3]
# stdout: sum of squares: 14

from sympy import symbols, Poly, solve

x = symbols('x')
p = x**3 - 6*x**2 + 11*x - 6
roots = solve(p, x)
print("roots:", roots)
print("sum of squares:", sum(r**2 for r in roots))
