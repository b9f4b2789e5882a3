# status: ok
# stdout: 2
# stdout: [-1, -1, 1, 0]
# stdout: [0, -2, 0, 1]
# stdout: (Matrix([
# stdout: [1, 0, 1, 0],
# stdout: [0, 1, 1, 2],
# stdout: [0, 0, 0, 0]]), (0, 1))

from sympy import Matrix

A = Matrix([[1, 2, 3, 4], [2, 4, 6, 8], [1, 0, 1, 0]])
print(A.rank())
for v in A.nullspace():
    print(list(v))
print(A.rref())
