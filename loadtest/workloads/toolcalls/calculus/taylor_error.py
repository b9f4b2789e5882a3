# status: ok
# stdout: 1 not yet
# stdout: 2 not yet
# stdout: 3 not yet
# stdout: 4 not yet
# stdout: 5 not yet
# stdout: 6 ok
# stdout: 7 ok
# stdout: 8 ok

import math

def taylor_sin(x, terms):
    total, term = 0.0, x
    for k in range(terms):
        total += term
        term *= -x*x/((2*k + 2)*(2*k + 3))
    return total

for terms in range(1, 9):
    err = abs(taylor_sin(1.0, terms) - math.sin(1.0))
    print(terms, "ok" if err < 1e-8 else "not yet")
