# status: ok
# stdout: t= 0.0  prey=10.000  predator=5.000
# stdout: t= 3.0  prey=2.631  predator=0.019
# stdout: t= 6.0  prey=0.409  predator=0.204
# stdout: t= 9.0  prey=0.698  predator=6.768
# stdout: t=12.0  prey=4.797  predator=0.025
# stdout: t=15.0  prey=0.714  predator=0.075

import numpy as np
from scipy.integrate import solve_ivp

def rhs(t, z, a=1.5, b=1.0, c=3.0, d=1.0):
    x, y = z
    return [a*x - b*x*y, -c*y + d*x*y]

sol = solve_ivp(rhs, (0, 15), [10, 5], rtol=1e-9, atol=1e-9, dense_output=True)
t = np.linspace(0, 15, 16)
z = sol.sol(t)
for k in range(0, 16, 3):
    print(f"t={t[k]:4.1f}  prey={z[0][k]:.3f}  predator={z[1][k]:.3f}")
