# status: ok
# stdout: 32.0
# stdout: boundary: 8 interior: 29.0

def area(pts):
    s = 0
    for (x1, y1), (x2, y2) in zip(pts, pts[1:] + pts[:1]):
        s += x1*y2 - x2*y1
    return abs(s)/2

poly = [(0, 0), (4, 0), (6, 3), (3, 7), (-1, 4)]
print(area(poly))

# Pick's theorem
from math import gcd
B = sum(gcd(abs(x2 - x1), abs(y2 - y1)) for (x1, y1), (x2, y2) in zip(poly, poly[1:] + poly[:1]))
I = area(poly) - B/2 + 1
print("boundary:", B, "interior:", I)
