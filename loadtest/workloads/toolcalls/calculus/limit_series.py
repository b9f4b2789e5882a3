# status: ok
# stdout: 1/2
# stdout: exp(6)
# stdout: 1 + x + x**2/2 - x**4/8 - x**5/15 - x**6/240 + O(x**7)

from sympy import symbols, limit, sin, tan, series, exp, oo

x = symbols('x')
print(limit((tan(x) - sin(x))/x**3, x, 0))
print(limit((1 + 2/x)**(3*x), x, oo))
print(series(exp(sin(x)), x, 0, 7))
