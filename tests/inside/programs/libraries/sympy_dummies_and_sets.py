from sympy import *
x = symbols("x", real=True)
print(Dummy("d"), solveset(sin(x), x), imageset(Lambda(x, x**2), Interval(0, 2)), {Symbol(c) for c in "abcd"})
print(Poly(x**5 - x - 1).all_roots(), reduce_inequalities([x**2 < 4, x > 0], x))
