# status: ok
# stdout: extreme values: [-2, 0, 2]

from sympy import symbols, diff, solve

x, y, lam = symbols('x y lam', real=True)
f = x**2*y
g = x**2 + y**2 - 3
L = f - lam*g
sols = solve([diff(L, v) for v in (x, y, lam)], [x, y, lam], dict=True)
vals = sorted({f.subs(s) for s in sols})
print("extreme values:", vals)
