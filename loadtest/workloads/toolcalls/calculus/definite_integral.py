# status: ok
# limits: wall_s=60 cpu_s=30
# stdout: 3*pi/8
# stdout: 6
# stdout: log(2)

from sympy import symbols, integrate, sin, pi, exp, oo, log

x = symbols('x')
print(integrate(sin(x)**4, (x, 0, pi)))
print(integrate(x**3*exp(-x), (x, 0, oo)))
print(integrate(log(x)/(1 + x)**2, (x, 1, oo)))
