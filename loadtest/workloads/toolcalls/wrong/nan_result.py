# status: ok
# stdout: [  0. -inf  nan] [ 1.  0. nan]
# stdout: False False

import numpy as np

with np.errstate(invalid="ignore", divide="ignore"):
    a = np.array([1.0, 0.0, -1.0])
    print(np.log(a), np.sqrt(a))
print(np.isnan(np.nan == np.nan), float("nan") == float("nan"))
