# status: timed_out
# limits: wall_s=2

from itertools import permutations

best = None
for p in permutations(range(14)):
    if all(abs(p[i] - p[i + 1]) > 5 for i in range(13)):
        best = p
        break
print(best)
