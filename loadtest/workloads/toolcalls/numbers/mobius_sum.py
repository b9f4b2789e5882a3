# status: ok
# stdout: 12 0 12
# stdout: 30 0 30
# stdout: 36 0 36
# stdout: 100 0 100
# stdout: 2

from sympy import totient, divisors
try:
    from sympy.functions.combinatorial.numbers import mobius
except ImportError:
    from sympy import mobius

for n in (12, 30, 36, 100):
    print(n, sum(mobius(d) for d in divisors(n)), sum(totient(d) for d in divisors(n)))
print(sum(int(mobius(k)) for k in range(1, 1001)))
