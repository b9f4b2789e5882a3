# status: ok
# stdout: True
# stdout: 10 0 0

import networkx as nx

G = nx.complete_graph(5)
print(nx.is_eulerian(G))
walk = list(nx.eulerian_circuit(G, source=0))
print(len(walk), walk[0][0], walk[-1][1])
