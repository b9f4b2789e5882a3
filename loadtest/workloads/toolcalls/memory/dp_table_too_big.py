# status: out_of_memory
# limits: memory_mb=64

# memo table over all (mask, last) pairs for n = 22 cities
n = 22
dp = [[0]*n for _ in range(1 << n)]
print(len(dp))
