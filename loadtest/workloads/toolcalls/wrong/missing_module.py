# status: failed
# last_error: ModuleNotFoundError: No module named 'sage'

from sage.all import EllipticCurve

E = EllipticCurve([0, 0, 1, -1, 0])
print(E.rank())
