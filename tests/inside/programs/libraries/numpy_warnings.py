import numpy as np
print(np.array([1.0, 0.0]) / 0)
print(np.sqrt(-1.0), np.log(0.0), np.mean([]))
np.seterr(all="raise")
np.float64(1) / np.float64(0)
