# status: ok
# stdout: {a: 1/4, b: 3/8, c: 3/8}

from sympy import Matrix, Rational as R, symbols, solve, ones

P = Matrix([[R(1, 2), R(1, 4), R(1, 4)], [R(1, 3), R(1, 3), R(1, 3)], [0, R(1, 2), R(1, 2)]])
a, b, c = symbols('a b c')
pi = Matrix([[a, b, c]])
sol = solve(list(pi*P - pi) + [a + b + c - 1], [a, b, c])
print(sol)
