# status: ok
# stdout: 19 1159

def floors(eggs, drops):
    f = [0]*(eggs + 1)
    for _ in range(drops):
        for e in range(eggs, 0, -1):
            f[e] += f[e - 1] + 1
    return f[eggs]

d = 0
while floors(3, d) < 1000:
    d += 1
print(d, floors(3, d))
