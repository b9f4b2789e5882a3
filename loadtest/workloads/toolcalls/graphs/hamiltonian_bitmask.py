# status: ok
# stdout: 46

# shortest tour through 10 cities on a grid (Held-Karp)
cities = [((i*7) % 11, (i*5) % 13) for i in range(10)]
n = len(cities)
d = [[abs(a - c) + abs(b - e) for c, e in cities] for a, b in cities]
INF = 10**9
dp = [[INF]*n for _ in range(1 << n)]
dp[1][0] = 0
for mask in range(1 << n):
    for j in range(n):
        if dp[mask][j] < INF:
            for k in range(n):
                if not mask >> k & 1:
                    v = dp[mask][j] + d[j][k]
                    if v < dp[mask | 1 << k][k]:
                        dp[mask | 1 << k][k] = v
print(min(dp[-1][j] + d[j][0] for j in range(n)))
