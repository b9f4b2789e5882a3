# status: ok
# stdout: 1.2345

import math

def golden(f, a, b, tol=1e-10):
    phi = (math.sqrt(5) - 1)/2
    c, d = b - phi*(b - a), a + phi*(b - a)
    while b - a > tol:
        if f(c) < f(d):
            b = d
        else:
            a = c
        c, d = b - phi*(b - a), a + phi*(b - a)
    return (a + b)/2

print(round(golden(lambda x: (x - 1.2345)**2 + 3, -5, 5), 6))
