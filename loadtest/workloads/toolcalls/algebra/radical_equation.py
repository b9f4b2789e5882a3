# status: ok
# stdout: candidates: [9]
# stdout: 9 True

from sympy import symbols, sqrt, solve, S

x = symbols('x', real=True)
eq = sqrt(x + 7) - sqrt(x - 5) - 2
sol = solve(eq, x)
print("candidates:", sol)
for v in sol:
    print(v, eq.subs(x, v) == 0)
