# status: ok
# stdout: V = 8*pi/3

from sympy import symbols, integrate, pi, sqrt, Rational

x = symbols('x')
V = pi*integrate(sqrt(x)**2 - (x/2)**2, (x, 0, 4))
print("V =", V)
