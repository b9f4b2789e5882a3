# status: ok
# stdout: 534678912
# stdout: 672195348
# stdout: 198342567
# stdout: 859761423
# stdout: 426853791
# stdout: 713924856
# stdout: 961537284
# stdout: 287419635
# stdout: 345286179
# stdout: valid: True
# stdout: corner product: 270

# Solve the sudoku by constraint propagation + depth-first search, then verify the result.
puzzle = """
53..7....
6..195...
.98....6.
8...6...3
4..8.3..1
7...2...6
.6....28.
...419..5
....8..79
""".split()

ROWS = COLS = range(9)
DIGITS = set("123456789")


def parse(lines):
    grid = {}
    for r, line in enumerate(lines):
        for c, ch in enumerate(line):
            grid[r, c] = set(ch) if ch != "." else set(DIGITS)
    return grid


def peers(r, c):
    box_r, box_c = 3*(r//3), 3*(c//3)
    result = {(r, j) for j in COLS} | {(i, c) for i in ROWS}
    result |= {(i, j) for i in range(box_r, box_r + 3) for j in range(box_c, box_c + 3)}
    result.discard((r, c))
    return result


PEERS = {(r, c): peers(r, c) for r in ROWS for c in COLS}


def propagate(grid):
    """Remove solved digits from peers until nothing changes. Returns False on a contradiction."""
    changed = True
    while changed:
        changed = False
        for cell, options in grid.items():
            if len(options) != 1:
                continue
            digit = next(iter(options))
            for peer in PEERS[cell]:
                if digit in grid[peer]:
                    if len(grid[peer]) == 1:
                        return False
                    grid[peer] = grid[peer] - {digit}
                    changed = True
    return True


nodes = 0


def search(grid):
    global nodes
    nodes += 1
    if not propagate(grid):
        return None
    open_cells = [(len(v), k) for k, v in grid.items() if len(v) > 1]
    if not open_cells:
        return grid
    _, cell = min(open_cells)
    for digit in sorted(grid[cell]):
        trial = {k: set(v) for k, v in grid.items()}
        trial[cell] = {digit}
        solved = search(trial)
        if solved:
            return solved
    return None


solution = search(parse(puzzle))
rows = ["".join(next(iter(solution[r, c])) for c in COLS) for r in ROWS]
print("\n".join(rows))

# verification
units = rows + ["".join(r[c] for r in rows) for c in COLS]
units += ["".join(rows[i][j] for i in range(a, a + 3) for j in range(b, b + 3)) for a in (0, 3, 6) for b in (0, 3, 6)]
print("valid:", all(set(u) == DIGITS for u in units))
print("corner product:", int(rows[0][0])*int(rows[0][8])*int(rows[8][0])*int(rows[8][8]))
