# status: ok
# stdout: {-5/3, 3}

from sympy import symbols, Abs, solveset, S, Eq

x = symbols('x', real=True)
sol = solveset(Eq(Abs(2*x - 3) + Abs(x + 1), 7), x, domain=S.Reals)
print(sol)
