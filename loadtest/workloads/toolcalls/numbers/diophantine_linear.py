# status: ok
# stdout: {(5*t_0 - 28, 14 - 2*t_0)}

from sympy import symbols
from sympy.solvers.diophantine import diophantine

x, y = symbols('x y', integer=True)
print(diophantine(12*x + 30*y - 84))
