# status: ok
# stdout:  quick

def lcs(a, b):
    best, end = 0, 0
    prev = [0]*(len(b) + 1)
    for i, x in enumerate(a, 1):
        cur = [0]
        for j, y in enumerate(b, 1):
            cur.append(prev[j - 1] + 1 if x == y else 0)
            if cur[-1] > best:
                best, end = cur[-1], i
        prev = cur
    return a[end - best:end]

print(lcs("the quick brown fox", "a quickly brownish ox"))
