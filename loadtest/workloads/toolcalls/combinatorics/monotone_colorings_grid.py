# status: ok
# stdout: 23858

from itertools import product

# 2-colourings of a 4x4 grid with no monochromatic 2x2 square
def ok(rows):
    for r in range(3):
        for c in range(3):
            if rows[r][c] == rows[r][c + 1] == rows[r + 1][c] == rows[r + 1][c + 1]:
                return False
    return True

row_options = list(product((0, 1), repeat=4))

def compatible(a, b):
    return all(not (a[c] == a[c + 1] == b[c] == b[c + 1]) for c in range(3))

counts = {r: 1 for r in row_options}
for _ in range(3):
    counts = {r: sum(v for q, v in counts.items() if compatible(q, r)) for r in row_options}
print(sum(counts.values()))
