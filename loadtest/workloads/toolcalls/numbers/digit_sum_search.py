# status: ok
# stdout: 69999

# smallest n with digit sum of n and of n+1 both divisible by 7
def ds(n):
    return sum(map(int, str(n)))

n = 1
while not (ds(n) % 7 == 0 and ds(n + 1) % 7 == 0):
    n += 1
print(n)
