# status: ok
# fetch: region.svg
# stdout: True

import matplotlib
matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import Circle, Polygon

fig, ax = plt.subplots(figsize=(3, 3))
ax.add_patch(Circle((0, 0), 1, fill=False))
ax.add_patch(Polygon([(-1, 0), (1, 0), (0.6, 0.8)], fill=False))
ax.set_xlim(-1.2, 1.2)
ax.set_ylim(-1.2, 1.2)
ax.set_aspect("equal")
fig.savefig("region.svg")
print(open("region.svg").read().count("<path") > 5)
