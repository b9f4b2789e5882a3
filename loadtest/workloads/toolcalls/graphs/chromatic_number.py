# status: ok
# stdout: Petersen 3
# stdout: C7 3
# stdout: K5 5
# stdout: cube 2

import networkx as nx

def colourable(G, k):
    nodes = sorted(G, key=G.degree, reverse=True)
    colour = {}
    def go(i):
        if i == len(nodes):
            return True
        used = {colour[n] for n in G[nodes[i]] if n in colour}
        for c in range(k):
            if c not in used:
                colour[nodes[i]] = c
                if go(i + 1):
                    return True
                del colour[nodes[i]]
        return False
    return go(0)

for name, G in (("Petersen", nx.petersen_graph()), ("C7", nx.cycle_graph(7)), ("K5", nx.complete_graph(5)),
                ("cube", nx.hypercube_graph(3))):
    print(name, next(k for k in range(1, 9) if colourable(G, k)))
