# status: ok
# stdout: [64]

from sympy import symbols, log, solve, N, Rational

x = symbols('x', positive=True)
# log_2(x) + log_4(x) + log_8(x) = 11
eq = log(x, 2) + log(x, 4) + log(x, 8) - 11
sol = solve(eq, x)
print(sol)
