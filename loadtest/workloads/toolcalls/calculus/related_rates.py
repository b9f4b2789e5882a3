# status: ok
# stdout: dy/dt = -5/6

from sympy import symbols, Function, diff, solve, Rational

t = symbols('t')
x, y = Function('x')(t), Function('y')(t)
# ladder of length 13: x^2 + y^2 = 169, x = 5, dx/dt = 2
eq = diff(x**2 + y**2 - 169, t)
dy = solve(eq, diff(y, t))[0]
val = dy.subs(diff(x, t), 2).subs({x: 5, y: 12})
print("dy/dt =", val)
