# status: failed
# last_error: AttributeError: 'Add' object has no attribute 'simplify_all'
# stdout: 1

import sympy as sp

x = sp.symbols('x')
expr = sp.sin(x)**2 + sp.cos(x)**2
print(sp.simplify(expr))
print(expr.simplify_all())
