import io
import pandas as pd
frame = pd.read_csv(io.StringIO("k,v\na,1\nb,2\na,3\n"))
print(frame.groupby("k").agg(["sum", "mean"]), frame.describe(), frame.dtypes)
frame.to_csv("out.csv")
print(open("out.csv").read())
frame["missing"]
