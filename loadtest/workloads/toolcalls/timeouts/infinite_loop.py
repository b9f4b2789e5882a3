# status: timed_out
# limits: wall_s=1

n = 1
while n != 0:
    n = n + 2 if n % 2 else n
