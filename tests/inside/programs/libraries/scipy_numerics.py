import numpy as np
from scipy import integrate, optimize, stats, special, linalg
print(optimize.brentq(lambda t: t**3 - 2, 0, 2), optimize.minimize(lambda v: ((v - 1) ** 2).sum(), np.zeros(2)).x.round(4))
print(integrate.quad(np.sin, 0, np.pi)[0], stats.norm.ppf(0.975), special.comb(10, 3), linalg.expm(np.zeros((2, 2))))
print(integrate.quad(lambda t: 1 / t, 0, 1)[0] > 10)
