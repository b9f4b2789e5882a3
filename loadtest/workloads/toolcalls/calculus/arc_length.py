# status: ok
# stdout: sqrt(x**4 + 2*x**2 + 1)/(2*x)
# stdout: log(3)/2 + 2

from sympy import symbols, sqrt, diff, integrate, simplify, cosh, Rational

x = symbols('x', positive=True)
f = x**2/4 - __import__('sympy').log(x)/2
ds = simplify(sqrt(1 + diff(f, x)**2))
print(ds)
print(integrate((x**2 + 1)/(2*x), (x, 1, 3)))
