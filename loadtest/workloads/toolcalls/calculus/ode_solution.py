# status: ok
# limits: wall_s=60 cpu_s=30
# stdout: Eq(y(t), (t*(t/2 + 2) + 1)*exp(-2*t))
# stdout: (True, 0)

from sympy import Function, dsolve, Eq, symbols, exp, checkodesol

t = symbols('t')
y = Function('y')
ode = Eq(y(t).diff(t, 2) + 4*y(t).diff(t) + 4*y(t), exp(-2*t))
sol = dsolve(ode, y(t), ics={y(0): 1, y(t).diff(t).subs(t, 0): 0})
print(sol)
print(checkodesol(ode, sol))
