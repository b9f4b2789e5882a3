# status: failed
# last_error: ZeroDivisionError: division by zero
# stdout: 2.0

def mean(xs):
    return sum(xs)/len(xs)

print(mean([1, 2, 3]))
print(mean([]))
