# status: ok
# stdout: {1: 0.3797, 2: 0.1989, 3: 0.3839, 4: 0.0375}

import networkx as nx

G = nx.DiGraph([(1, 2), (1, 3), (2, 3), (3, 1), (4, 3), (4, 1)])
pr = nx.pagerank(G, alpha=0.85)
print({k: round(v, 4) for k, v in sorted(pr.items())})
