# status: ok
# fetch: sine.png
# stdout: saved

import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

x = np.linspace(0, 2*np.pi, 200)
plt.figure(figsize=(4, 3))
plt.plot(x, np.sin(x), label="sin")
plt.legend()
plt.savefig("sine.png", dpi=60)
print("saved")
