# status: ok
# stdout: north-west corner: 1180
# stdout: enter (2, 1) leave (2, 2) cost 1120
# stdout: enter (0, 1) leave (1, 1) cost 1070
# stdout: enter (0, 2) leave (0, 0) cost 1020
# stdout: stepping stone: 1020  linear program: 1020  min-cost flow: 1020

# Ship goods from three plants to four stores at least cost. Solve it as a linear program with scipy, as a min-cost
# flow with networkx, and by a small stepping-stone implementation; all three must agree.
import networkx as nx
import numpy as np
from scipy.optimize import linprog

supply = [35, 50, 40]
demand = [45, 20, 30, 30]
cost = [
    [8, 6, 10, 9],
    [9, 12, 13, 7],
    [14, 9, 16, 5],
]
assert sum(supply) == sum(demand)
m, n = len(supply), len(demand)


def by_linear_program():
    A, b = [], []
    for i in range(m):
        row = np.zeros((m, n))
        row[i, :] = 1
        A.append(row.ravel())
        b.append(supply[i])
    for j in range(n):
        row = np.zeros((m, n))
        row[:, j] = 1
        A.append(row.ravel())
        b.append(demand[j])
    result = linprog(np.ravel(cost), A_eq=np.array(A), b_eq=b, bounds=(0, None), method="highs")
    assert result.success, result.message
    return int(round(result.fun))


def by_flow():
    G = nx.DiGraph()
    for i in range(m):
        G.add_node(("plant", i), demand=-supply[i])
    for j in range(n):
        G.add_node(("store", j), demand=demand[j])
    for i in range(m):
        for j in range(n):
            G.add_edge(("plant", i), ("store", j), weight=cost[i][j])
    value, flow = nx.network_simplex(G)
    return value


def north_west():
    """A first feasible plan."""
    s, d = list(supply), list(demand)
    plan, i, j = {}, 0, 0
    while i < m and j < n:
        q = min(s[i], d[j])
        plan[i, j] = q
        s[i] -= q
        d[j] -= q
        if s[i] == 0 and i < m - 1:
            i += 1
        else:
            j += 1
    return plan


def potentials(plan):
    u, v = {0: 0}, {}
    while len(u) < m or len(v) < n:
        for i, j in plan:
            if i in u and j not in v:
                v[j] = cost[i][j] - u[i]
            elif j in v and i not in u:
                u[i] = cost[i][j] - v[j]
    return u, v


def cycle(plan, entering):
    """The alternating cycle that the entering cell closes."""
    def extend(path, along_row):
        i, j = path[-1]
        for cell in list(plan) + [entering]:
            same = cell[0] == i if along_row else cell[1] == j
            if cell == (i, j) or not same:
                continue
            if cell == entering and len(path) >= 4:
                return path
            if cell in path:
                continue
            found = extend(path + [cell], not along_row)
            if found:
                return found
        return None
    return extend([entering], True)


plan = north_west()
print("north-west corner:", sum(cost[i][j]*q for (i, j), q in plan.items()))
while True:
    u, v = potentials(plan)
    reduced = {(i, j): cost[i][j] - u[i] - v[j] for i in range(m) for j in range(n) if (i, j) not in plan}
    entering = min(reduced, key=reduced.get)
    if reduced[entering] >= 0:
        break
    loop = cycle(plan, entering)
    minus = loop[1::2]
    theta = min(plan[c] for c in minus)
    leaving = next(c for c in minus if plan[c] == theta)
    plan[entering] = 0
    for k, cell in enumerate(loop):
        plan[cell] += theta if k % 2 == 0 else -theta
    del plan[leaving]
    print("enter", entering, "leave", leaving, "cost", sum(cost[i][j]*q for (i, j), q in plan.items()))

ours = sum(cost[i][j]*q for (i, j), q in plan.items())
print("stepping stone:", ours, " linear program:", by_linear_program(), " min-cost flow:", by_flow())
