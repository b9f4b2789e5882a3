# status: ok
# stdout: [1, -7, 5, 31, -30]
# stdout: e1 = 7  e2 = 5  e3 = -31  e4 = -30

# Verify Vieta's formulas for a quartic with known integer roots
from sympy import symbols, expand, Poly

x = symbols('x')
roots = [1, -2, 3, 5]
expr = 1
for r in roots:
    expr *= (x - r)
poly = Poly(expand(expr), x)
coeffs = poly.all_coeffs()
print(coeffs)
print("e1 =", -coeffs[1], " e2 =", coeffs[2], " e3 =", -coeffs[3], " e4 =", coeffs[4])
