import random
import numpy as np
np.random.seed(3)
print(np.random.rand(3), np.random.randn(3), np.random.permutation(5), np.random.randint(0, 100, 5))
print(np.random.default_rng(1).normal(size=3), np.random.RandomState(5).rand())
random.seed(3)
print(random.random(), np.random.normal())
