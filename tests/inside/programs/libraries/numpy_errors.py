import numpy as np
try:
    np.ones(3) + np.ones(4)
except ValueError as error:
    print(error)
np.linalg.inv(np.zeros((2, 2)))
