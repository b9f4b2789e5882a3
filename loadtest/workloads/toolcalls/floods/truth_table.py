# status: ok
# stdout_sha256: 23dabb1cbdd5d954c81c0d6735a345f4b7ecb4df5a172c1e5d7d0226019fec16

# truth table of (a -> b) and (b -> c) ... for 12 variables, one line each
from itertools import product

for bits in product((0, 1), repeat=12):
    value = all(not bits[i] or bits[i + 1] for i in range(11))
    print("".join(map(str, bits)), int(value))
