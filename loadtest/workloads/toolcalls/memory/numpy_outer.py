# status: out_of_memory
# limits: memory_mb=128

import numpy as np

x = np.arange(12000.0)
table = np.outer(x, x)
print(table.sum())
