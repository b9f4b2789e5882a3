# status: ok
# stdout: [3, 5, 7, 9, 11]
# stdout: [4.667, 9.667, 16.667, 25.667]

import pandas as pd

s = pd.Series([1, 4, 9, 16, 25, 36])
print(s.diff().dropna().astype(int).tolist())
print(s.rolling(3).mean().dropna().round(3).tolist())
