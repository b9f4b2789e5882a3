# status: ok
# stdout: [(2, 5), (5, 2)]
# stdout: 133
# stdout: 133

from sympy import symbols, solve, simplify

x, y = symbols('x y', real=True)
sols = solve([x + y - 7, x*y - 10], [x, y])
print(sorted(sols))
for s in sols:
    a, b = s
    print(a**3 + b**3)
