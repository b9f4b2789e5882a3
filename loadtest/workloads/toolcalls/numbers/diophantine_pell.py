# status: ok
# stdout: [(1766319049, 226153980)]
# stdout: 1

from sympy.solvers.diophantine.diophantine import diop_DN

print(diop_DN(61, 1))
x, y = diop_DN(61, 1)[0]
print(x*x - 61*y*y)
