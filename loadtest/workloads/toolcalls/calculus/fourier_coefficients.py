# status: ok
# stdout: 1 8/pi
# stdout: 2 0
# stdout: 3 8/(27*pi)
# stdout: 4 0
# stdout: 5 8/(125*pi)

from sympy import symbols, integrate, sin, cos, pi, Rational, simplify

x = symbols('x')
n = symbols('n', integer=True, positive=True)
f = x*(pi - x)
bn = simplify(2/pi*integrate(f*sin(n*x), (x, 0, pi)))
for k in range(1, 6):
    print(k, simplify(bn.subs(n, k)))
