# status: ok
# stdout: 1/(2*(n + 2)) - 1/(n + 1) + 1/(2*n)
# stdout: 0

from sympy import symbols, apart, together, simplify

n = symbols('n')
f = 1/(n*(n + 1)*(n + 2))
g = apart(f, n)
print(g)
print(simplify(together(g) - f))
