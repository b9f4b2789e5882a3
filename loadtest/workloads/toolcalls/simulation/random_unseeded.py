# status: ok
# stdout_varies: drawn from an unseeded generator

import random

flips = [random.choice("HT") for _ in range(20)]
print("".join(flips))
print(max(len(run) for run in "".join(flips).replace("HT", "H T").replace("TH", "T H").split()))
