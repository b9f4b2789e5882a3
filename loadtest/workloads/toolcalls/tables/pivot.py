# status: ok
# stdout_sha256: 02d6b48deb577dfa478e233cbb9437383dd320eabf6adcf76b014f19204b501c

import pandas as pd

rows = [(n, n % 2 == 0, n % 3) for n in range(1, 31)]
df = pd.DataFrame(rows, columns=["n", "even", "mod3"])
print(df.pivot_table(index="even", columns="mod3", values="n", aggfunc="sum").to_string())
