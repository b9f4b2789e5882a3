# status: ok
# stdout: 8 (2, 7, 6, 9, 5, 1, 4, 3, 8)

from itertools import permutations

count = 0
first = None
for p in permutations(range(1, 10)):
    a, b, c, d, e, f, g, h, i = p
    if a + b + c == 15 and d + e + f == 15 and a + d + g == 15 and b + e + h == 15 \
            and a + e + i == 15 and c + e + g == 15 and g + h + i == 15 and c + f + i == 15:
        count += 1
        first = first or p
print(count, first)
