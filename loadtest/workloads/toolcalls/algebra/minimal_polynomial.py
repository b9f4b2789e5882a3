# status: ok
# stdout: x**4 - 10*x**2 + 1
# stdout: x**6 - 6*x**4 - 4*x**3 + 12*x**2 - 24*x - 4

from sympy import sqrt, minimal_polynomial, symbols, cbrt

x = symbols('x')
print(minimal_polynomial(sqrt(2) + sqrt(3), x))
print(minimal_polynomial(sqrt(2) + cbrt(2), x))
