# status: ok
# stdout: [0, 1, 0, 1, 2, 3, 2, 0, 1, 0, 1, 2, 3, 2, 0]
# stdout: [0, 2, 7, 9, 14, 16, 21, 23, 28, 30, 35, 37, 42, 44, 49]

def mex(s):
    k = 0
    while k in s:
        k += 1
    return k

# moves: take 1, 3 or 4 stones
g = [0]
for n in range(1, 50):
    g.append(mex({g[n - m] for m in (1, 3, 4) if n >= m}))
print(g[:15])
print([n for n in range(50) if g[n] == 0])
