# status: ok
# stdout: True [1. 1. 1.]

from scipy.optimize import minimize, rosen, rosen_der
import numpy as np

res = minimize(rosen, np.array([-1.2, 1.0, 0.8]), jac=rosen_der, method='BFGS')
print(res.success, np.round(res.x, 4))
