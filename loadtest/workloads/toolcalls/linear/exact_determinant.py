# status: ok
# stdout: -(a - b)*(a - c)*(b - c)

from sympy import Matrix, symbols, factor

a, b, c = symbols('a b c')
M = Matrix([[1, a, a**2], [1, b, b**2], [1, c, c**2]])
print(factor(M.det()))
