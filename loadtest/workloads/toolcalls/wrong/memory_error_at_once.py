# status: failed
# last_error: MemoryError

table = [0]*10**15
print(len(table))
