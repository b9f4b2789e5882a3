# status: ok
# stdout: 6 x**2 - x + 1 True
# stdout: 8 x**4 + 1 True
# stdout: 10 x**4 - x**3 + x**2 - x + 1 True
# stdout: 12 x**4 - x**2 + 1 True
# stdout: 15 x**8 - x**7 + x**5 - x**4 + x**3 - x + 1 True
# stdout: 30 x**8 + x**7 - x**5 - x**4 - x**3 + x + 1 True

from sympy import cyclotomic_poly, symbols, degree, totient

x = symbols('x')
for n in (6, 8, 10, 12, 15, 30):
    c = cyclotomic_poly(n, x)
    print(n, c, degree(c, x) == totient(n))
