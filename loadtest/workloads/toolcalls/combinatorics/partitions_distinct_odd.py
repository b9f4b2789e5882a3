# status: ok
# stdout: 5 3 3
# stdout: 10 10 10
# stdout: 20 64 64
# stdout: 50 3658 3658

def count(n, parts):
    ways = [1] + [0]*n
    for p in parts:
        for s in range(p, n + 1):
            ways[s] += ways[s - p]
    return ways[n]

def count_distinct(n):
    ways = [1] + [0]*n
    for p in range(1, n + 1):
        for s in range(n, p - 1, -1):
            ways[s] += ways[s - p]
    return ways[n]

for n in (5, 10, 20, 50):
    print(n, count_distinct(n), count(n, range(1, n + 1, 2)))
