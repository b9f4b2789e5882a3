# status: ok
# stdout: after column 0: pivot 1
# stdout: after column 1: pivot 1/12
# stdout: after column 2: pivot 1/180
# stdout: after column 3: pivot 1/2800
# stdout: after column 4: pivot 1/44100
# stdout: after column 5: pivot 1/698544
# stdout: x = ['-6', '210', '-1680', '5040', '-6300', '2772']
# stdout: det = 1 / 186313420339200000
# stdout: residual is zero: True
# stdout: sympy agrees: True
# stdout: relative error of numpy below 1e-8: True
# stdout: condition number above 1e7: True
# stdout: integers: True largest: 4410000

# Solve the linear system exactly over the rationals, showing each step of the elimination, then compare the result
# with sympy and with numpy's floating point answer. The matrix is a 6x6 Hilbert matrix, which is badly conditioned.
from fractions import Fraction

import numpy as np
from sympy import Matrix, Rational


def hilbert(n):
    return [[Fraction(1, i + j + 1) for j in range(n)] for i in range(n)]


def eliminate(matrix, rhs, verbose=True):
    n = len(matrix)
    rows = [list(row) + [b] for row, b in zip(matrix, rhs)]
    for col in range(n):
        pivot = next(r for r in range(col, n) if rows[r][col] != 0)
        if pivot != col:
            rows[col], rows[pivot] = rows[pivot], rows[col]
        for r in range(col + 1, n):
            factor = rows[r][col] / rows[col][col]
            if factor:
                rows[r] = [x - factor*y for x, y in zip(rows[r], rows[col])]
        if verbose:
            print(f"after column {col}: pivot {rows[col][col]}")
    x = [Fraction(0)]*n
    for r in reversed(range(n)):
        s = rows[r][n] - sum(rows[r][c]*x[c] for c in range(r + 1, n))
        x[r] = s/rows[r][r]
    det = Fraction(1)
    for r in range(n):
        det *= rows[r][r]
    return x, det


n = 6
H = hilbert(n)
b = [Fraction(1)]*n
x, det = eliminate(H, b)
print("x =", [str(v) for v in x])
print("det = 1 /", 1/det)

# exact check by substitution
residual = [sum(H[i][j]*x[j] for j in range(n)) - b[i] for i in range(n)]
print("residual is zero:", all(v == 0 for v in residual))

# sympy
S = Matrix(n, n, lambda i, j: Rational(1, i + j + 1))
sx = S.LUsolve(Matrix([1]*n))
print("sympy agrees:", [int(v) for v in sx] == [int(v) for v in x])

# floating point
A = np.array([[float(v) for v in row] for row in H])
fx = np.linalg.solve(A, np.ones(n))
worst = max(abs(f - float(e))/abs(float(e)) for f, e in zip(fx, x))
print("relative error of numpy below 1e-8:", worst < 1e-8)
print("condition number above 1e7:", np.linalg.cond(A) > 1e7)

# The inverse of a Hilbert matrix has integer entries: print it column by column, and its largest entry.
columns = [eliminate(H, [Fraction(int(i == j)) for i in range(n)], verbose=False)[0] for j in range(n)]
print("integers:", all(v.denominator == 1 for c in columns for v in c), "largest:", max(int(v) for c in columns for v in c))
