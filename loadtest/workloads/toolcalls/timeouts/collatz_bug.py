# status: timed_out
# limits: wall_s=1
# stdout: 111

# count Collatz steps (forgot the integer division ... and the -1 cycle)
def steps(n):
    c = 0
    while n != 1:
        n = 3*n + 1 if n % 2 else n//2
        c += 1
    return c

print(steps(27), flush=True)
print(steps(-5))
