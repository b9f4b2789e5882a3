# status: ok
# stdout: PD = 6 CD = 10

from fractions import Fraction as F

# chord through P with PA = 3, PB = 8; the other chord PC = 4
PD = F(3*8, 4)
print("PD =", PD, "CD =", PD + 4)
