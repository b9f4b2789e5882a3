# status: ok
# stdout: coefficients: (-737/40, 1663/12, -4291/8, 13349/12, -5761/5, 456)
# stdout: P(0) = 456
# stdout: P(7) = 3641
# stdout: same polynomial: True
# stdout: 0 456 True
# stdout: 7 3641 True
# stdout: 8 13840 True
# stdout: 10 107134 True
# stdout: discriminant is zero: False
# stdout: number of real roots: 2
# stdout: 97 52 52 True
# stdout: 101 5 5 True
# stdout: 103 36 36 True

# We are given  P(x) = x^6 + a x^5 + b x^4 + c x^3 + d x^2 + e x + f with P(k) = k! for k = 1..6.
# Find P(0) and P(7) and double-check everything with exact arithmetic.
from sympy import symbols, factorial, linsolve, Matrix, Rational, Poly, interpolate, expand
from fractions import Fraction
from math import factorial as fact

a, b, c, d, e, f = symbols('a b c d e f')
x = symbols('x')

unknowns = (a, b, c, d, e, f)
equations = []
for k in range(1, 7):
    value = k**6 + a*k**5 + b*k**4 + c*k**3 + d*k**2 + e*k + f
    equations.append(value - factorial(k))

solution = list(linsolve(equations, *unknowns))[0]
print("coefficients:", solution)

P = x**6
for coef, power in zip(solution, range(5, -1, -1)):
    P += coef * x**power

print("P(0) =", P.subs(x, 0))
print("P(7) =", P.subs(x, 7))

# --- independent check number one: Lagrange interpolation of k! - k^6 ---
points = [(k, fact(k) - k**6) for k in range(1, 7)]
L = expand(interpolate(points, x)) + x**6
print("same polynomial:", expand(L - P) == 0)

# --- independent check number two: Newton's forward differences with plain fractions ---
def newton_eval(ys, t):
    """ys are the values at 1, 2, 3, ...; evaluates the interpolating polynomial at t."""
    diffs = [Fraction(y) for y in ys]
    table = [diffs[0]]
    row = diffs
    while len(row) > 1:
        row = [row[i + 1] - row[i] for i in range(len(row) - 1)]
        table.append(row[0])
    total = Fraction(0)
    binom = Fraction(1)
    for i, delta in enumerate(table):
        total += binom * delta
        binom = binom * (Fraction(t) - 1 - i) / (i + 1)
    return total

ys = [fact(k) - k**6 for k in range(1, 7)]
for t in (0, 7, 8, 10):
    v = newton_eval(ys, t) + t**6
    print(t, v, v == P.subs(x, t))

# --- are the roots real? ---
poly = Poly(P, x)
print("discriminant is zero:", poly.discriminant() == 0)
print("number of real roots:", poly.count_roots())

# --- the same with modular arithmetic, as a last check: P(7) modulo three primes ---
for p in (97, 101, 103):
    direct = int(P.subs(x, 7)) % p
    by_newton = newton_eval(ys, 7) + 7**6
    print(p, direct, int(by_newton) % p, direct == int(by_newton) % p)
