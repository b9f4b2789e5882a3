# status: failed
# last_error: KeyError: 'values'
# stdout: 6

import pandas as pd

df = pd.DataFrame({"value": [1, 2, 3]})
print(df["value"].sum())
print(df["values"].mean())
