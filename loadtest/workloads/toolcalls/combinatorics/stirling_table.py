# status: ok
# stdout:    1
# stdout:    1    1
# stdout:    1    3    1
# stdout:    1    7    6    1
# stdout:    1   15   25   10    1
# stdout:    1   31   90   65   15    1
# stdout:    1   63  301  350  140   21    1
# stdout: Bell(10) = 115975

def stirling2(n, k, memo={}):
    if n == k:
        return 1
    if k == 0 or k > n:
        return 0
    if (n, k) not in memo:
        memo[n, k] = k*stirling2(n - 1, k) + stirling2(n - 1, k - 1)
    return memo[n, k]

for n in range(1, 8):
    print(" ".join(f"{stirling2(n, k):4d}" for k in range(1, n + 1)))
print("Bell(10) =", sum(stirling2(10, k) for k in range(1, 11)))
