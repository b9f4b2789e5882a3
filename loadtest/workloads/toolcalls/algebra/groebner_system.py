# status: ok
# stdout: x + y + z - 6
# stdout: y**2 + y*z - 6*y + z**2 - 6*z + 11
# stdout: z**3 - 6*z**2 + 11*z - 6

from sympy import symbols, groebner

x, y, z = symbols('x y z')
G = groebner([x + y + z - 6, x*y + y*z + z*x - 11, x*y*z - 6], x, y, z, order='lex')
for g in G.exprs:
    print(g)
