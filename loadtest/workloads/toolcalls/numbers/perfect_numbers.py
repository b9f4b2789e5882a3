# status: ok
# stdout: [6, 28, 496, 8128]

def sigma(n):
    s, d = 0, 1
    while d*d <= n:
        if n % d == 0:
            s += d
            if d != n//d:
                s += n//d
        d += 1
    return s

print([n for n in range(2, 10000) if sigma(n) == 2*n])
