# status: failed
# last_error: ImportError: cannot import name 'sorted_sublists' from 'itertools' (unknown location)

from itertools import combinations, sorted_sublists

print(len(list(sorted_sublists("ABC", 2))))
