# status: ok
# stdout: [Point2D(4, -3), Point2D(4, 3)]
# stdout: 6

from sympy import symbols, solve, sqrt, Point, Circle

c1 = Circle(Point(0, 0), 5)
c2 = Circle(Point(8, 0), 5)
pts = sorted(c1.intersection(c2), key=lambda p: p.y)
print(pts)
print(pts[0].distance(pts[1]))
