from sklearn.linear_model import LinearRegression
from sklearn.cluster import KMeans
import numpy as np
X = np.arange(10.0).reshape(-1, 1)
print(LinearRegression().fit(X, 2 * X.ravel() + 1).coef_.round(6), sorted(KMeans(2, random_state=0, n_init=1).fit(X).labels_))
