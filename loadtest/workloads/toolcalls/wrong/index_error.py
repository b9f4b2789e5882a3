# status: failed
# last_error: IndexError: list index out of range
# stdout: 11

primes = [2, 3, 5, 7, 11]
print(primes[4])
print(primes[len(primes)])
