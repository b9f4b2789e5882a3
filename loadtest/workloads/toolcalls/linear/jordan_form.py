# status: ok
# stdout: Matrix([[3, 1, 0], [0, 3, 0], [0, 0, 5]])
# stdout: True

from sympy import Matrix

M = Matrix([[3, 1, 0], [0, 3, 0], [0, 0, 5]])
P, J = M.jordan_form()
print(J)
print(P*J*P.inv() == M)
