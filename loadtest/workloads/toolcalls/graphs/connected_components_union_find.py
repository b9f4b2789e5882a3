# status: ok
# stdout: 83 81

class DSU:
    def __init__(self, n):
        self.p = list(range(n))
        self.size = [1]*n

    def find(self, a):
        while self.p[a] != a:
            self.p[a] = self.p[self.p[a]]
            a = self.p[a]
        return a

    def union(self, a, b):
        a, b = self.find(a), self.find(b)
        if a != b:
            if self.size[a] < self.size[b]:
                a, b = b, a
            self.p[b] = a
            self.size[a] += self.size[b]

# numbers 2..200 joined when they share a prime factor greater than 5
from math import gcd
n = 200
dsu = DSU(n + 1)
for p in (7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97):
    for m in range(2*p, n + 1, p):
        dsu.union(p, m)
groups = {}
for v in range(2, n + 1):
    groups.setdefault(dsu.find(v), []).append(v)
print(len(groups), max(map(len, groups.values())))
