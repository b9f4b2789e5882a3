# status: failed
# last_error: networkx.exception.NodeNotFound: Target 9 is not in G
# stdout: 3

import networkx as nx

G = nx.path_graph(4)
print(G.number_of_edges())
print(nx.shortest_path(G, 0, 9))
