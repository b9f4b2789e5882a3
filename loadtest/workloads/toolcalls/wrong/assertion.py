# status: failed
# last_error: AssertionError: n=5: expected 11, got 10

def count(n):
    return n*(n - 1)//2

for n, expected in [(3, 3), (4, 6), (5, 11)]:
    got = count(n)
    assert got == expected, f"n={n}: expected {expected}, got {got}"
print("all tests pass")
