# status: ok
# fetch: hist.png
# stdout: [35, 57, 93, 105, 134, 179, 125, 110, 86, 50, 26]

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import random

random.seed(5)
data = [sum(random.randint(1, 6) for _ in range(2)) for _ in range(1000)]
counts, edges, _ = plt.hist(data, bins=range(2, 14))
plt.savefig("hist.png", dpi=50)
print([int(c) for c in counts])
