from sympy import *
x, y, n = symbols("x y n")
print(solve(x**3 - 6*x**2 + 11*x - 6, x), factor(x**4 - 1), integrate(exp(-x**2), (x, -oo, oo)))
print(simplify(sin(x)**2 + cos(x)**2), series(cos(x), x, 0, 6), Matrix([[1, 2], [3, 4]]).eigenvals())
pprint(Integral(x**2 / (1 + x), x))
print(dsolve(Derivative(Function("f")(x), x) - x, Function("f")(x)), nsolve(cos(x) - x, 1), factorint(2**67 - 1))
print(latex(Rational(1, 3) * x**2), srepr(x + 1), Sum(1 / n**2, (n, 1, oo)).doit(), isprime(10**18 + 9))
