# status: ok
# stdout: 31 [1, 1, 3, 1, 3, 5, 7, 1, 3, 5, 7, 9, 11, 13, 15, 1]

def josephus(n, k):
    r = 0
    for m in range(2, n + 1):
        r = (r + k) % m
    return r + 1

print(josephus(41, 3), [josephus(n, 2) for n in range(1, 17)])
