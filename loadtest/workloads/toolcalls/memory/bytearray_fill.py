# status: out_of_memory
# limits: memory_mb=100

blocks = []
for i in range(40):
    blocks.append(bytearray(b"x")*(16*1024*1024))
print(len(blocks))
