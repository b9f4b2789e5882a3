# status: ok
# stdout: False True
# stdout: 0.9999999999999999 1.0
# stdout: 1.4142135623730950488016887242096980785696718753769

import math
from decimal import Decimal, getcontext

print(0.1 + 0.2 == 0.3, math.isclose(0.1 + 0.2, 0.3))
total = 0.0
for _ in range(10):
    total += 0.1
print(total, math.fsum([0.1]*10))
getcontext().prec = 50
print(Decimal(2).sqrt())
