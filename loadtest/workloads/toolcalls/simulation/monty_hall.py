# status: ok
# stdout: stay   0.3308
# stdout: switch 0.6605

import random

random.seed(1)

def play(switch):
    car, pick = random.randrange(3), random.randrange(3)
    opened = next(d for d in range(3) if d not in (car, pick))
    if switch:
        pick = next(d for d in range(3) if d not in (pick, opened))
    return pick == car

n = 20000
print("stay  ", sum(play(False) for _ in range(n))/n)
print("switch", sum(play(True) for _ in range(n))/n)
