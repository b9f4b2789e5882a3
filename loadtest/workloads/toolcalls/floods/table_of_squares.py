# status: ok
# truncated: stdout
# stdout_sha256: f65b21467ae3ed233b30afe85caefac0b1bdc9acc74f2521cd4fac5743c2354b

for n in range(1, 5200):
    print(n, n*n, n**3)
