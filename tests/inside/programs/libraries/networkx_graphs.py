import networkx as nx
graph = nx.cycle_graph(6)
graph.add_edge(0, 3)
print(nx.shortest_path(graph, 1, 4), nx.is_bipartite(graph), nx.greedy_color(graph), sorted(nx.triangles(graph).items()))
nx.shortest_path(graph, 0, 99)
