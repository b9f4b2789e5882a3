# status: ok
# stdout: 17 17 [['a', 'b', 's'], ['t']]

import networkx as nx

G = nx.DiGraph()
for u, v, c in [("s", "a", 10), ("s", "b", 8), ("a", "b", 2), ("a", "t", 7), ("b", "t", 10)]:
    G.add_edge(u, v, capacity=c)
value, _ = nx.maximum_flow(G, "s", "t")
cut, parts = nx.minimum_cut(G, "s", "t")
print(value, cut, [sorted(p) for p in parts])
