# status: ok
# stdout: [1, 2, 3, 4, 5, 6, 8, 121, 171, 242, 292]

def to_base(n, b):
    digits = []
    while n:
        n, r = divmod(n, b)
        digits.append(r)
    return digits[::-1] or [0]

hits = []
for n in range(1, 5000):
    if to_base(n, 7) == to_base(n, 7)[::-1] and to_base(n, 10) == to_base(n, 10)[::-1]:
        hits.append(n)
print(hits)
