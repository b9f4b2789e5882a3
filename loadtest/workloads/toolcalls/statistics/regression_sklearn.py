# status: ok
# limits: wall_s=60 cpu_s=30
# stdout: [ 4.  -2.5] 1.0 1.0

import numpy as np
from sklearn.linear_model import LinearRegression

rng = np.random.default_rng(3)
X = rng.uniform(0, 10, size=(200, 2))
y = 4*X[:, 0] - 2.5*X[:, 1] + 1 + rng.normal(0, 0.01, 200)
m = LinearRegression().fit(X, y)
print(np.round(m.coef_, 2), round(float(m.intercept_), 1), round(float(m.score(X, y)), 4))
