# status: ok
# stdout_sha256: b7cd29f87a193951511a9ad9ff1f624b82f7333a862c7cb4ac52d85d3b80444f

import pandas as pd

n = pd.Series(range(1, 101))
t = pd.crosstab(n % 4, (n*n) % 8, rownames=["n mod 4"], colnames=["n^2 mod 8"])
print(t.to_string())
