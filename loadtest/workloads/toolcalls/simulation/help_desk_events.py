# status: ok
# stdout: P(0) = 1/9
# stdout: P(F) = 1/9
# stdout: P(S) = 1/9
# stdout: P(2) = 2/9
# stdout: P(3) = 2/9
# stdout: P(4) = 2/9
# stdout: lost fraction (exact) = 2/9 = 0.22222
# stdout: lost fraction (simulated) within 0.01: True
# stdout: books balance: True

# A discrete-event simulation of a help desk with two clerks of different speed and a short queue: customers who find
# the queue full go away. Compare with the exact stationary distribution of the continuous-time Markov chain.
import heapq
import random
from fractions import Fraction

from sympy import Matrix, Rational, symbols, solve


class Desk:
    """State: set of busy clerks and the length of the queue."""

    def __init__(self, arrival, speeds, room, seed):
        self.arrival = arrival
        self.speeds = speeds
        self.room = room
        self.random = random.Random(seed)
        self.now = 0.0
        self.busy = [False]*len(speeds)
        self.queue = 0
        self.lost = self.served = self.arrived = 0
        self.events = []
        self.schedule("arrival", self.random.expovariate(arrival), None)

    def schedule(self, kind, delay, clerk):
        heapq.heappush(self.events, (self.now + delay, kind, -1 if clerk is None else clerk))

    def start(self, clerk):
        self.busy[clerk] = True
        self.schedule("done", self.random.expovariate(self.speeds[clerk]), clerk)

    def step(self):
        self.now, kind, clerk = heapq.heappop(self.events)
        if kind == "arrival":
            self.arrived += 1
            self.schedule("arrival", self.random.expovariate(self.arrival), None)
            free = [c for c, busy in enumerate(self.busy) if not busy]
            if free:
                # the faster clerk is preferred
                self.start(max(free, key=lambda c: self.speeds[c]))
            elif self.queue < self.room:
                self.queue += 1
            else:
                self.lost += 1
        else:
            self.served += 1
            self.busy[clerk] = False
            if self.queue:
                self.queue -= 1
                self.start(clerk)


# --- exact: states 0, F (fast busy), S (slow busy), 2, 3 = both busy and one waiting, 4 = two waiting
lam, fast, slow = Rational(3), Rational(2), Rational(1)
names = ["0", "F", "S", "2", "3", "4"]
Q = Matrix.zeros(6, 6)


def rate(a, b, r):
    Q[names.index(a), names.index(b)] += r
    Q[names.index(a), names.index(a)] -= r


rate("0", "F", lam)
rate("F", "2", lam)
rate("S", "2", lam)
rate("2", "3", lam)
rate("3", "4", lam)
rate("F", "0", fast)
rate("S", "0", slow)
rate("2", "S", fast)
rate("2", "F", slow)
rate("3", "2", fast + slow)
rate("4", "3", fast + slow)

p = symbols("p0:6")
solution = solve(list(Matrix([p])*Q) + [sum(p) - 1], p)
probabilities = [solution[v] for v in p]
for name, value in zip(names, probabilities):
    print(f"P({name}) = {value}")
print("lost fraction (exact) =", probabilities[-1], "=", round(float(probabilities[-1]), 5))

desk = Desk(3.0, [2.0, 1.0], room=2, seed=2718)
while desk.arrived < 60000:
    desk.step()
print("lost fraction (simulated) within 0.01:", abs(desk.lost/desk.arrived - float(probabilities[-1])) < 0.01)
print("books balance:", desk.arrived == desk.lost + desk.served + desk.queue + sum(desk.busy))
