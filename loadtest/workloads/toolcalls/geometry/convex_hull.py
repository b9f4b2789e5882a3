# status: ok
# stdout: 11
# stdout: [(0, 0), (54, 0), (81, 9), (98, 17), (100, 38), (100, 56), (99, 94), (51, 96), (4, 96), (1, 95), (0, 18)]

def cross(o, a, b):
    return (a[0] - o[0])*(b[1] - o[1]) - (a[1] - o[1])*(b[0] - o[0])

def hull(points):
    pts = sorted(set(points))
    lower, upper = [], []
    for p in pts:
        while len(lower) >= 2 and cross(lower[-2], lower[-1], p) <= 0:
            lower.pop()
        lower.append(p)
    for p in reversed(pts):
        while len(upper) >= 2 and cross(upper[-2], upper[-1], p) <= 0:
            upper.pop()
        upper.append(p)
    return lower[:-1] + upper[:-1]

pts = [((i*37) % 101, (i*53) % 97) for i in range(200)]
h = hull(pts)
print(len(h))
print(h)
