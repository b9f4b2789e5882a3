from sympy.core.random import random_complex_number, seed
from sympy import randMatrix
seed(5)
print(random_complex_number(), randMatrix(2, 2, seed=3))
