# status: out_of_memory
# limits: memory_mb=64

seen = set()
for a in range(2000):
    for b in range(2000):
        seen.add((a, b, a*b))
print(len(seen))
