# status: ok
# stdout: done

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

plt.plot([1, 2, 3], [1, 4, 9])
plt.close("all")
print("done")
