# status: ok
# stdout: 3*pi/2

from sympy import symbols, integrate, pi, cos, sin, simplify

r, th = symbols('r theta', positive=True)
# area inside r = 1 + cos(theta)
A = integrate(integrate(r, (r, 0, 1 + cos(th))), (th, 0, 2*pi))
print(A)
