# status: ok
# stdout: a e True

from graphlib import TopologicalSorter

deps = {"d": {"b", "c"}, "b": {"a"}, "c": {"a"}, "e": {"d"}}
order = list(TopologicalSorter(deps).static_order())
pos = {n: i for i, n in enumerate(order)}
print(order[0], order[-1], all(pos[p] < pos[n] for n, ps in deps.items() for p in ps))
