# status: ok
# truncated: stdout
# stdout_sha256: 473f6b522276195f6b6b62853bea85603a7bfed7b9fb16dd2dd0144f7010cf36

a, b = 0, 1
for i in range(800):
    print(i, a)
    a, b = b, a + b
