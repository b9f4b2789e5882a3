# status: timed_out
# limit: cpu
# limits: cpu_s=1 wall_s=20

x = 0.5
while True:
    x = 3.9*x*(1 - x)
