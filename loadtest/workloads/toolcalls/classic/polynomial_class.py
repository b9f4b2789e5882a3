# status: ok
# stdout: 1x^0 + 5x^1 + 10x^2 + 10x^3 + 5x^4 + 1x^5 243

class Poly:
    def __init__(self, *coeffs):
        self.c = list(coeffs)
        while len(self.c) > 1 and self.c[-1] == 0:
            self.c.pop()

    def __mul__(self, other):
        out = [0]*(len(self.c) + len(other.c) - 1)
        for i, a in enumerate(self.c):
            for j, b in enumerate(other.c):
                out[i + j] += a*b
        return Poly(*out)

    def __call__(self, x):
        r = 0
        for a in reversed(self.c):
            r = r*x + a
        return r

    def __repr__(self):
        return " + ".join(f"{a}x^{i}" for i, a in enumerate(self.c) if a) or "0"

p = Poly(1, 1)
q = p
for _ in range(4):
    q = q*p
print(q, q(2))
