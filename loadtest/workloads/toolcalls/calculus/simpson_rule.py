# status: ok
# stdout: 4 2.0045597550 4.56e-03
# stdout: 16 2.0000165910 1.66e-05
# stdout: 64 2.0000000645 6.45e-08
# stdout: 256 2.0000000003 2.52e-10

import math

def simpson(f, a, b, n):
    h = (b - a)/n
    s = f(a) + f(b)
    for i in range(1, n):
        s += f(a + i*h)*(4 if i % 2 else 2)
    return s*h/3

for n in (4, 16, 64, 256):
    v = simpson(math.sin, 0, math.pi, n)
    print(n, f"{v:.10f}", f"{abs(v - 2):.2e}")
