# status: ok
# stdout: lambda**3 - 3*lambda**2 + 3*lambda - 25
# stdout: True

from sympy import Matrix, symbols, eye, zeros

lam = symbols('lambda')
A = Matrix([[1, 2, 0], [0, 1, 3], [4, 0, 1]])
p = A.charpoly(lam)
print(p.as_expr())
coeffs = p.all_coeffs()
acc = zeros(3, 3)
for c in coeffs:
    acc = acc*A + c*eye(3)
print(acc == zeros(3, 3))
