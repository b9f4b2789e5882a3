# status: ok
# stdout: 0.7390851332

from scipy.optimize import brentq
import math

f = lambda x: math.cos(x) - x
r = brentq(f, 0, 1, xtol=1e-14)
print(f"{r:.10f}")
