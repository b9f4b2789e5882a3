# status: ok
# stdout: k,x,y
# stdout: 1,10,-1
# stdout: 2,20,200
# stdout: 3,30,300
# stdout: 4,-1,400

import pandas as pd

a = pd.DataFrame({"k": [1, 2, 3], "x": [10, 20, 30]})
b = pd.DataFrame({"k": [2, 3, 4], "y": [200, 300, 400]})
m = a.merge(b, on="k", how="outer").sort_values("k")
print(m.fillna(-1).astype(int).to_csv(index=False).strip())
