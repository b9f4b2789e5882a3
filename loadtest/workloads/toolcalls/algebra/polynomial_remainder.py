# status: ok
# stdout: remainder: 2 - 2*x

from sympy import symbols, div, Poly

x = symbols('x')
p = Poly(x**100 - 2*x**51 + 1, x)
q = Poly(x**2 - 1, x)
quo, rem = div(p, q)
print("remainder:", rem.as_expr())
