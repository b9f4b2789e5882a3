# status: ok
# stdout: area: 84
# stdout: sides: 14 15 13
# stdout: centroid: Point2D(19/3, 4)
# stdout: circumcenter: Point2D(7, 33/8) R = 65/8
# stdout: incenter: Point2D(6, 4) r = 4
# stdout: orthocenter: Point2D(5, 15/4)

from sympy import Point, Triangle, Rational

T = Triangle(Point(0, 0), Point(14, 0), Point(5, 12))
print("area:", T.area)
print("sides:", T.sides[0].length, T.sides[1].length, T.sides[2].length)
print("centroid:", T.centroid)
print("circumcenter:", T.circumcenter, "R =", T.circumradius)
print("incenter:", T.incenter, "r =", T.inradius)
print("orthocenter:", T.orthocenter)
