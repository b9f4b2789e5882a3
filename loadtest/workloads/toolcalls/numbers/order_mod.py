# status: ok
# stdout: 96 5
# stdout: {3: 2, 11: 1, 41: 1, 101: 1, 271: 1, 3541: 1, 9091: 1, 27961: 1}

from sympy.ntheory import n_order, primitive_root, factorint

print(n_order(10, 97), primitive_root(97))
print(factorint(10**20 - 1))
