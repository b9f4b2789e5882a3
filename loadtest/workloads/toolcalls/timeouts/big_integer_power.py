# status: timed_out
# limits: wall_s=1

# 9^(9^9) exactly, then its last digits as a string
n = 9**(9**9)
print(n % 10**10)
