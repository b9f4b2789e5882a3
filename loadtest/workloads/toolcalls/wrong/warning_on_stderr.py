# status: ok
# stdout: approx: 25.07

import warnings

warnings.warn("this approximation is only valid for large n")
print("approx:", round(2.5066*100**0.5, 2))
