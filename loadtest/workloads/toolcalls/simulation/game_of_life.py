# status: ok
# stdout: generation 0: [(0, 2), (1, 0), (1, 2), (2, 1), (2, 2)]
# stdout: generation 1: [(0, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
# stdout: generation 2: [(0, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
# stdout: generation 3: [(1, 1), (1, 3), (2, 2), (2, 3), (3, 2)]
# stdout: generation 4: [(1, 3), (2, 1), (2, 3), (3, 2), (3, 3)]
# stdout: 12

def step(cells):
    from collections import Counter
    near = Counter((x + dx, y + dy) for x, y in cells for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy)
    return {c for c, n in near.items() if n == 3 or (n == 2 and c in cells)}

cells = {(1, 0), (2, 1), (0, 2), (1, 2), (2, 2)}
for gen in range(5):
    print(f"generation {gen}: {sorted(cells)}")
    cells = step(cells)
cells = {(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (2, 0)}
for gen in range(50):
    cells = step(cells)
print(len(cells))
