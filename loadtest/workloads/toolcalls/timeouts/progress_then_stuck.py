# status: timed_out
# limits: wall_s=2
# stdout: searching with bound 10
# stdout: searching with bound 100
# stdout: searching with bound 1000

for n in range(1, 4):
    print("searching with bound", 10**n, flush=True)
k = 10**4
while True:
    if (k*k + 1) % (4*k) == 0:
        print("found", k)
        break
    k += 1
