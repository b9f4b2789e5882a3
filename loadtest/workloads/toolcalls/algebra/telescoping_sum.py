# status: ok
# stdout: 4949/19800
# stdout: 4949/19800 True

from fractions import Fraction

# sum_{n=1}^{98} 1/(n(n+1)(n+2))
total = Fraction(0)
for n in range(1, 99):
    total += Fraction(1, n*(n + 1)*(n + 2))
print(total)

closed = Fraction(1, 4) - Fraction(1, 2*99*100)
print(closed, closed == total)
