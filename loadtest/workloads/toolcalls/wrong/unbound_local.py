# status: failed
# last_error: UnboundLocalError: cannot access local variable 'total' where it is not associated with a value

total = 0

def add(n):
    total += n

add(3)
print(total)
