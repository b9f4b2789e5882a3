# status: ok
# stdout: 9567 1085 10652

# SEND + MORE = MONEY by exhaustive search with pruning on the last digits
from itertools import permutations

def solve():
    for d, e, y in permutations(range(10), 3):
        if (d + e) % 10 != y:
            continue
        c1 = (d + e)//10
        for n, r in permutations([v for v in range(10) if v not in (d, e, y)], 2):
            if (n + r + c1) % 10 != e:
                continue
            for s, o in permutations([v for v in range(10) if v not in (d, e, y, n, r)], 2):
                m = 1
                if m in (d, e, y, n, r, s, o) or s == 0:
                    continue
                send = 1000*s + 100*e + 10*n + d
                more = 1000*m + 100*o + 10*r + e
                money = 10000*m + 1000*o + 100*n + 10*e + y
                if send + more == money:
                    return send, more, money

print(*solve())
