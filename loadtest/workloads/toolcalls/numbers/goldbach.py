# status: ok
# stdout: 10 2 (3, 7)
# stdout: 20 2 (3, 17)
# stdout: 30 3 (7, 23)
# stdout: 40 3 (3, 37)
# stdout: 50 4 (3, 47)
# stdout: 60 6 (7, 53)
# stdout: 70 5 (3, 67)
# stdout: 80 4 (7, 73)
# stdout: 90 9 (7, 83)
# stdout: 100 6 (3, 97)

from sympy import isprime

def goldbach(n):
    return [(p, n - p) for p in range(2, n//2 + 1) if isprime(p) and isprime(n - p)]

for n in range(10, 101, 10):
    g = goldbach(n)
    print(n, len(g), g[0])
