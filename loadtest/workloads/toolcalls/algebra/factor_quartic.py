# status: ok
# stdout: 1 (x**2 - x + 1)*(x**2 + x + 1)
# stdout: 1 (x**2 - 2*x + 2)*(x**2 + 2*x + 2)
# stdout: 2 (x**2 - 4*x + 8)*(x**2 + 4*x + 8)
# stdout: 3 (x**2 - 6*x + 18)*(x**2 + 6*x + 18)
# stdout: 4 (x**2 - 8*x + 32)*(x**2 + 8*x + 32)
# stdout: 5 (x**2 - 10*x + 50)*(x**2 + 10*x + 50)
# stdout: 6 (x**2 - 12*x + 72)*(x**2 + 12*x + 72)
# stdout: 7 (x**2 - 14*x + 98)*(x**2 + 14*x + 98)
# stdout: 8 (x**2 - 16*x + 128)*(x**2 + 16*x + 128)
# stdout: 9 (x**2 - 18*x + 162)*(x**2 + 18*x + 162)
# stdout: 10 (x**2 - 20*x + 200)*(x**2 + 20*x + 200)
# stdout: 11 (x**2 - 22*x + 242)*(x**2 + 22*x + 242)
# stdout: 12 (x**2 - 24*x + 288)*(x**2 + 24*x + 288)
# stdout: 13 (x**2 - 26*x + 338)*(x**2 + 26*x + 338)
# stdout: 14 (x**2 - 28*x + 392)*(x**2 + 28*x + 392)
# stdout: 15 (x**2 - 30*x + 450)*(x**2 + 30*x + 450)
# stdout: 16 (x**2 - 32*x + 512)*(x**2 + 32*x + 512)
# stdout: 17 (x**2 - 34*x + 578)*(x**2 + 34*x + 578)
# stdout: 18 (x**2 - 36*x + 648)*(x**2 + 36*x + 648)
# stdout: 19 (x**2 - 38*x + 722)*(x**2 + 38*x + 722)

from sympy import symbols, factor, Poly

x = symbols('x')
for k in range(1, 40):
    p = Poly(x**4 + k*x**2 + 1, x)
    fs = p.factor_list()[1]
    if len(fs) > 1:
        print(k, factor(p.as_expr()))
for k in range(1, 20):
    p = Poly(x**4 + 4*k**4, x)
    print(k, factor(p.as_expr()))
