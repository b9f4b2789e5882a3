from mpmath import mp, mpf, zeta
mp.dps = 40
print(mp.pi, zeta(3), mpf(1) / 3)
