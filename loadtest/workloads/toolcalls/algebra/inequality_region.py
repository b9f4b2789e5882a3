# status: ok
# stdout: Union(Interval(-2, 1), Interval.open(3, oo))

from sympy import symbols, solve_univariate_inequality, S

x = symbols('x', real=True)
sol = solve_univariate_inequality((x - 1)*(x + 2)/(x - 3) >= 0, x, relational=False)
print(sol)
