# status: failed
# last_error: IndexError: list index out of range
# stdout: []

from sympy import symbols, solve, sqrt

x = symbols('x', positive=True)
sols = solve(sqrt(x) + 5, x)
print(sols)
print("first solution:", sols[0])
