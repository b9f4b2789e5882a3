# status: ok
# stdout: 325 [325, 425, 625, 650, 725, 845, 850, 925, 1025, 1105]

from collections import defaultdict

reps = defaultdict(list)
N = 2000
a = 0
while a*a <= N:
    b = a
    while a*a + b*b <= N:
        reps[a*a + b*b].append((a, b))
        b += 1
    a += 1
print(min(n for n in reps if len(reps[n]) >= 3), [n for n in sorted(reps) if len(reps[n]) >= 3][:10])
