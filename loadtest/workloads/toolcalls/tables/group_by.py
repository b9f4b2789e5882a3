# status: ok
# stdout_sha256: 778a4a63ceccdda59a40f35f4d79eab660434f4cba0310e39a6f1e56ebf5f1f8

import pandas as pd

df = pd.DataFrame({"team": ["a", "b", "a", "c", "b", "a"], "score": [3, 5, 8, 1, 9, 4]})
g = df.groupby("team")["score"].agg(["count", "sum", "max"])
print(g.to_string())
