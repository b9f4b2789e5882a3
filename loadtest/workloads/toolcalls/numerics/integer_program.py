# status: ok
# stdout: [0, 1, 1, 1, 0] 51

import numpy as np
from scipy.optimize import milp, LinearConstraint, Bounds

weights = [12, 7, 11, 8, 9]
values = [24, 13, 23, 15, 16]
res = milp(c=-np.array(values), constraints=LinearConstraint([weights], ub=26), integrality=np.ones(5),
           bounds=Bounds(0, 1))
print([int(round(v)) for v in res.x], int(round(-res.fun)))
