# status: ok
# stdout: -2**n + 2*3**n
# stdout: [1, 4, 14, 46, 146, 454, 1394, 4246]

from sympy import Function, rsolve, symbols, simplify

n = symbols('n', integer=True)
a = Function('a')
sol = rsolve(a(n + 2) - 5*a(n + 1) + 6*a(n), a(n), {a(0): 1, a(1): 4})
print(simplify(sol))
print([sol.subs(n, k) for k in range(8)])
