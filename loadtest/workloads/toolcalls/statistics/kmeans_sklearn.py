# status: ok
# limits: wall_s=60 cpu_s=30
# stdout: [(0.3333, 0.3333), (10.3333, 10.3333)]

import numpy as np
from sklearn.cluster import KMeans

pts = np.array([[0, 0], [0, 1], [1, 0], [10, 10], [10, 11], [11, 10]], dtype=float)
km = KMeans(n_clusters=2, n_init=10, random_state=0).fit(pts)
print(sorted(map(tuple, np.round(km.cluster_centers_, 4).tolist())))
