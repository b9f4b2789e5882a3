# status: ok
# stdout: 15.2 15.0 15
# stdout: 4.1042 15.16

import statistics as st

data = [12, 15, 11, 18, 19, 15, 22, 8, 15, 17]
print(st.mean(data), st.median(data), st.mode(data))
print(round(st.stdev(data), 4), round(st.pvariance(data), 4))
