# status: ok
# stdout: ['A', 'C', 'B', 'D', 'E'] 11

import networkx as nx

G = nx.Graph()
G.add_weighted_edges_from([("A", "B", 4), ("A", "C", 2), ("C", "B", 1), ("B", "D", 5), ("C", "D", 8), ("D", "E", 3)])
print(nx.shortest_path(G, "A", "E", weight="weight"), nx.shortest_path_length(G, "A", "E", weight="weight"))
