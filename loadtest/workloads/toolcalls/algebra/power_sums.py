# status: ok
# stdout: [123, 123]
# stdout: 123

# If x + 1/x = 3, find x^5 + 1/x^5
from sympy import symbols, solve, simplify, nsimplify

x = symbols('x')
s = solve(x + 1/x - 3, x)
vals = [simplify(r**5 + 1/r**5) for r in s]
print(vals)

# double-check with the recurrence a_n = 3 a_{n-1} - a_{n-2}
a = [2, 3]
for _ in range(4):
    a.append(3*a[-1] - a[-2])
print(a[5])
