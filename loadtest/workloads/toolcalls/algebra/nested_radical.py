# status: ok
# stdout: 3 - sqrt(2)
# stdout: -sqrt(5 - 2*sqrt(6)) + sqrt(2*sqrt(6) + 5) 2.82842712474619

from sympy import sqrt, sqrtdenest, nsimplify, N

e = sqrt(11 - 6*sqrt(2))
print(sqrtdenest(e))
e2 = sqrt(5 + 2*sqrt(6)) - sqrt(5 - 2*sqrt(6))
print(sqrtdenest(e2), N(e2, 15))
