# status: timed_out
# limits: wall_s=2

from sympy import factorint

# a product of two 40-digit primes, give or take
p = 10**39 + 3
q = 10**41 + 37
print(factorint((p*q)**1 * 1000003, use_pm1=False, use_ecm=False, use_rho=False))
