# status: ok
# truncated: stdout
# stdout_sha256: 60a4b9009c840a4294a0077861b8087f6cbd9b9038e3116c79733529a12accf7

from sympy import primerange

print(list(primerange(2, 110000))[:9600])
