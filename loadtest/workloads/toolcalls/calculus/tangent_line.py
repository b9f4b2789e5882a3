# status: ok
# stdout: t = 1 slope = 0
# stdout: t = 1 - sqrt(3) slope = -3 + 3*(1 - sqrt(3))**2
# stdout: t = 1 + sqrt(3) slope = -3 + 3*(1 + sqrt(3))**2

from sympy import symbols, diff, solve, sqrt

x = symbols('x')
f = x**3 - 3*x + 2
df = diff(f, x)
# tangent lines through (2, 0)
t = symbols('t')
eq = f.subs(x, t) + df.subs(x, t)*(2 - t)
ts = solve(eq, t)
for v in ts:
    print("t =", v, "slope =", df.subs(x, v))
