# status: ok
# stdout: [1, 0, 0, 2, 10, 4, 40, 92, 352]

def solve(n):
    full = (1 << n) - 1
    def place(cols, d1, d2):
        if cols == full:
            return 1
        free = full & ~(cols | d1 | d2)
        total = 0
        while free:
            bit = free & -free
            free ^= bit
            total += place(cols | bit, (d1 | bit) << 1, (d2 | bit) >> 1)
        return total
    return place(0, 0, 0)

print([solve(n) for n in range(1, 10)])
