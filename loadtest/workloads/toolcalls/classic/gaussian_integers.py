# status: ok
# stdout: 6-7i 85

class G:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def norm(self):
        return self.a**2 + self.b**2

    def __sub__(self, o):
        return G(self.a - o.a, self.b - o.b)

    def __mul__(self, o):
        return G(self.a*o.a - self.b*o.b, self.a*o.b + self.b*o.a)

    def __mod__(self, o):
        n = o.norm()
        x = self*G(o.a, -o.b)
        q = G((2*x.a + n)//(2*n), (2*x.b + n)//(2*n))
        return self - q*o

    def __repr__(self):
        return f"{self.a}{self.b:+d}i"

def gcd(a, b):
    while b.norm():
        a, b = b, a % b
    return a

g = gcd(G(85, 0), G(13, 84))
print(g, g.norm())
