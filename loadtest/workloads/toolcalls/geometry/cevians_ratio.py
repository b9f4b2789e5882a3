# status: ok
# stdout: {s: 10/11, t: 5/11} AP:PD = 10

# In triangle ABC, D on BC with BD:DC = 2:3, E on CA with CE:EA = 1:4. AD and BE meet at P. Find AP:PD.
from sympy import Matrix, Rational, symbols, solve

A, B, C = Matrix([0, 0]), Matrix([1, 0]), Matrix([0, 1])
D = B + Rational(2, 5)*(C - B)
E = C + Rational(1, 5)*(A - C)
s, t = symbols('s t')
eqs = list(A + s*(D - A) - (B + t*(E - B)))
sol = solve(eqs, [s, t])
print(sol, "AP:PD =", sol[s]/(1 - sol[s]))
