# status: ok
# limits: memory_mb=256
# stdout: 25600

data = bytearray(100*1024*1024)
for i in range(0, len(data), 4096):
    data[i] = 1
print(sum(data[::4096]))
