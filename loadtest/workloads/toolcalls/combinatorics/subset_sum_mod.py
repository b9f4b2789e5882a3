# status: ok
# stdout: [209728, 209712, 209712, 209712, 209712] True
# stdout: answer: 209728

# number of subsets of {1..20} with sum divisible by 5
n, m = 20, 5
dp = [1] + [0]*(m - 1)
for k in range(1, n + 1):
    dp = [dp[r] + dp[(r - k) % m] for r in range(m)]
print(dp, sum(dp) == 2**n)
print("answer:", dp[0])
