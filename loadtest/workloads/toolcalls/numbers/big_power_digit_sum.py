# status: ok
# stdout: 1366
# stdout: 2386
# stdout: 246336683

print(sum(int(c) for c in str(2**1000)))
print(len(str(3**5000)))
print(pow(3, 10**18, 10**9 + 7))
