# status: ok
# stdin: 9 14
# stdin: 2 7 11 15 -3 12 1 8 3
# stdout: [(0, 5), (2, 8)]

n, target = map(int, input().split())
a = list(map(int, input().split()))
seen = {}
pairs = []
for i, v in enumerate(a):
    if target - v in seen:
        pairs.append((seen[target - v], i))
    seen[v] = i
print(pairs)
