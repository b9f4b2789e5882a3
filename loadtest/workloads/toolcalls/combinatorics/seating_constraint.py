# status: ok
# stdout: 960

from itertools import permutations

# 8 people around a round table, A and B never adjacent, C and D always adjacent
people = "ABCDEFGH"
count = 0
for p in permutations(people[1:]):
    seats = ("A",) + p
    def adjacent(u, v):
        d = abs(seats.index(u) - seats.index(v))
        return d in (1, 7)
    if not adjacent("A", "B") and adjacent("C", "D"):
        count += 1
print(count)
