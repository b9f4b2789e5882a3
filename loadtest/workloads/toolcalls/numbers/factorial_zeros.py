# status: failed
# last_error: ValueError: Exceeds the limit (4300 digits) for integer string conversion; use sys.set_int_max_str_digits() to increase the limit
# stdout: 25 6 6
# stdout: 100 24 24
# stdout: 1000 249 249

import math

def zeros(n):
    c = 0
    while n:
        n //= 5
        c += n
    return c

for n in (25, 100, 1000, 2024):
    s = str(math.factorial(n))
    z = len(s) - len(s.rstrip('0'))
    print(n, zeros(n), z)
