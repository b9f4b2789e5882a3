# status: ok
# stdin: 3
# stdin: 2 0 1
# stdin: 1 3 2
# stdin: 1 1 4
# stdout: 18

from fractions import Fraction
n = int(input())
M = [list(map(Fraction, input().split())) for _ in range(n)]
det = Fraction(1)
for c in range(n):
    p = next((r for r in range(c, n) if M[r][c]), None)
    if p is None:
        det = Fraction(0)
        break
    if p != c:
        M[c], M[p] = M[p], M[c]
        det = -det
    det *= M[c][c]
    for r in range(c + 1, n):
        k = M[r][c]/M[c][c]
        M[r] = [x - k*y for x, y in zip(M[r], M[c])]
print(det)
