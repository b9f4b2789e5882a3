# status: ok
# stdout: 1296 1296
# stdout: 2000
# stdout: 432 432

import networkx as nx
import numpy as np

def spanning_trees(G):
    L = nx.laplacian_matrix(G).toarray().astype(float)
    return round(float(np.linalg.det(L[1:, 1:])))

print(spanning_trees(nx.complete_graph(6)), 6**4)
print(spanning_trees(nx.petersen_graph()))
print(spanning_trees(nx.complete_bipartite_graph(3, 4)), 3**3*4**2)
