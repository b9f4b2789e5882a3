# status: ok
# stdout: ['2/3', '-1/2', '3', '2/3', '-1/2', '3']
# stdout: answer: -1/2 -> m+n = 1

# f(x) = 1 - 1/x ; compute f^{2024}(3)
from fractions import Fraction

def f(x):
    return 1 - 1/x

v = Fraction(3)
seen = []
for i in range(2024):
    v = f(v)
    if i < 6:
        seen.append(str(v))
print(seen)
print("answer:", v, "-> m+n =", v.numerator + v.denominator)
