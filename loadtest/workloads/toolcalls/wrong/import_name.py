# status: failed
# last_error: ImportError: cannot import name 'multicombinations' from 'itertools' (unknown location)

from itertools import combinations, multicombinations

print(len(list(multicombinations("ABC", 2))))
