# status: ok
# stdout: 84.0
# stdout: R = 8.125 r = 4.0

import math

def heron(a, b, c):
    s = (a + b + c)/2
    return math.sqrt(s*(s - a)*(s - b)*(s - c))

area = heron(13, 14, 15)
print(area)
print("R =", 13*14*15/(4*area), "r =", area/21)
