# status: ok
# stdout: n = 4: 2 good circulant colourings [(1,), (2,)]
# stdout: n = 5: 2 good circulant colourings [(1,), (2,)]
# stdout: n = 6: 3 good circulant colourings [(1,), (3,), (1, 3)]
# stdout: n = 7: 3 good circulant colourings [(1,), (2,), (3,)]
# stdout: n = 8: 2 good circulant colourings [(1, 4), (3, 4)]
# stdout: n = 9: 0 good circulant colourings []
# stdout: explicit colouring on 8 vertices: True
# stdout: red degrees: [3, 3, 3, 3, 3, 3, 3, 3] number of red edges: 12
# stdout: least number of monochromatic triangles in K_6: 2

# A 2-colouring of K_8 without a red triangle and a blue K_4 exists (so R(3,4) > 8): verify the circulant one, and
# search for the number of such circulant colourings on n vertices for n up to 9.
from itertools import combinations


def circulant_red(n, jumps):
    """Red edges join i and j when their distance on the cycle is one of the jumps."""
    red = set()
    for i, j in combinations(range(n), 2):
        d = min((i - j) % n, (j - i) % n)
        if d in jumps:
            red.add((i, j))
    return red


def has_clique(n, edges, k):
    for group in combinations(range(n), k):
        if all(pair in edges for pair in combinations(group, 2)):
            return True
    return False


def is_good(n, jumps, r=3, b=4):
    red = circulant_red(n, jumps)
    blue = set(combinations(range(n), 2)) - red
    return not has_clique(n, red, r) and not has_clique(n, blue, b)


for n in range(4, 10):
    possible = range(1, n//2 + 1)
    good = []
    for size in range(len(possible) + 1):
        for jumps in combinations(possible, size):
            if is_good(n, set(jumps)):
                good.append(jumps)
    print(f"n = {n}: {len(good)} good circulant colourings", good[:4])

jumps = {1, 4}
print("explicit colouring on 8 vertices:", is_good(8, jumps))
red = circulant_red(8, jumps)
degree = [sum(v in e for e in red) for v in range(8)]
print("red degrees:", degree, "number of red edges:", len(red))

# Goodman: number of monochromatic triangles in any 2-colouring of K_6 is at least two
least = None
edges = list(combinations(range(6), 2))
triangles = list(combinations(range(6), 3))
index = {e: k for k, e in enumerate(edges)}
masks = [sum(1 << index[p] for p in combinations(t, 2)) for t in triangles]
for colouring in range(1 << len(edges)):
    mono = 0
    for m in masks:
        overlap = colouring & m
        if overlap == m or overlap == 0:
            mono += 1
            if least is not None and mono >= least:
                break
    else:
        if least is None or mono < least:
            least = mono
print("least number of monochromatic triangles in K_6:", least)
