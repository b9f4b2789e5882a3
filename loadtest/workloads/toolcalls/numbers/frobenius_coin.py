# status: ok
# stdout: (6, 9, 20) 43
# stdout: (5, 7) 23
# stdout: (11, 13, 17) 53

def representable(limit, coins):
    ok = [False]*(limit + 1)
    ok[0] = True
    for i in range(1, limit + 1):
        ok[i] = any(i >= c and ok[i - c] for c in coins)
    return ok

for coins in ((6, 9, 20), (5, 7), (11, 13, 17)):
    ok = representable(400, coins)
    print(coins, max(i for i, v in enumerate(ok) if not v))
