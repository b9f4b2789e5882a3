# status: failed
# last_error: IndentationError: unexpected indent

for i in range(3):
    total = 0
      total += i
print(total)
