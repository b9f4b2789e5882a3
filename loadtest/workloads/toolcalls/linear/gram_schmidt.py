# status: ok
# stdout: ['1', '1', '0']
# stdout: ['1/2', '-1/2', '1']
# stdout: ['-2/3', '2/3', '2/3']

from fractions import Fraction

def dot(u, v):
    return sum(a*b for a, b in zip(u, v))

def gram_schmidt(vs):
    out = []
    for v in vs:
        w = [Fraction(t) for t in v]
        for u in out:
            k = dot(v, u)/dot(u, u)
            w = [a - k*b for a, b in zip(w, u)]
        out.append(w)
    return out

for w in gram_schmidt([(1, 1, 0), (1, 0, 1), (0, 1, 1)]):
    print([str(t) for t in w])
