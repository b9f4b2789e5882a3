# status: ok
# stdout: lattice points in the disc of radius 10: 317
# stdout: 65

count = sum(1 for x in range(-10, 11) for y in range(-10, 11) if x*x + y*y <= 100)
print("lattice points in the disc of radius 10:", count)
best = max(range(1, 101), key=lambda n: sum(1 for x in range(-10, 11) for y in range(-10, 11) if x*x + y*y == n))
print(best)
