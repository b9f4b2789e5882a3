# status: failed
# last_error: NameError: name 'k' is not defined

import math

n = 10
result = math.factorial(n)//(math.factorial(k)*math.factorial(n - k))
print(result)
