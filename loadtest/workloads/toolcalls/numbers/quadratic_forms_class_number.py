# status: ok
# stdout: h = 1: 9 discriminants [3, 4, 7, 8, 11, 19, 43, 67, 163]
# stdout: h = 2: 18 discriminants [15, 20, 24, 35, 40, 51, 52, 88, 91, 115, 123, 148, 187, 232, 235, 267, 403, 427]
# stdout: h = 3: 12 discriminants [23, 31, 59, 83, 107, 139, 211, 283, 307, 331, 379, 499]
# stdout: forms of discriminant -23: [(2, -1, 3), (1, 1, 6), (2, 1, 3)]
# stdout: primes x^2 + xy + 6y^2 below 200: [23, 59, 101, 167, 173]
# stdout: primes 2x^2 + xy + 3y^2 below 200: [2, 3, 13, 29, 31, 41, 47, 71, 73, 127, 131, 139, 151, 163, 179, 193, 197]
# stdout: disjoint: True

# Class numbers of imaginary quadratic fields by counting reduced forms a x^2 + b xy + c y^2 with b^2 - 4ac = -D.
# The question: which fundamental discriminants above -500 have class number one, two, three?
import math
from collections import defaultdict


def is_squarefree(n):
    d = 2
    while d*d <= n:
        if n % (d*d) == 0:
            return False
        d += 1
    return True


def is_fundamental(D):
    """D is negative here."""
    if D % 4 == 1:
        return is_squarefree(-D)
    if D % 4 == 0:
        m = D//4
        return m % 4 in (2, 3) and is_squarefree(-m)
    return False


def reduced_forms(D):
    """All primitive reduced positive definite forms of discriminant D < 0."""
    forms = []
    bound = math.isqrt(-D//3)
    for b in range(-bound, bound + 1):
        if (b*b - D) % 4:
            continue
        ac = (b*b - D)//4
        for a in range(max(1, abs(b)), math.isqrt(ac) + 1):
            if ac % a:
                continue
            c = ac//a
            # reduced: |b| <= a <= c, and b >= 0 if |b| = a or a = c
            if not abs(b) <= a <= c:
                continue
            if b < 0 and (abs(b) == a or a == c):
                continue
            if math.gcd(math.gcd(a, b), c) == 1:
                forms.append((a, b, c))
    return forms


def represents(form, n):
    """Does the form take the value n? Search over the (finite) ellipse."""
    a, b, c = form
    limit = math.isqrt(4*a*n//(4*a*c - b*b)) + 1
    for y in range(-limit, limit + 1):
        # a x^2 + b y x + c y^2 - n = 0
        disc = (b*y)**2 - 4*a*(c*y*y - n)
        if disc < 0:
            continue
        r = math.isqrt(disc)
        if r*r == disc and ((-b*y + r) % (2*a) == 0 or (-b*y - r) % (2*a) == 0):
            return True
    return False


by_class_number = defaultdict(list)
for D in range(-3, -500, -1):
    if is_fundamental(D):
        by_class_number[len(reduced_forms(D))].append(-D)

for h in (1, 2, 3):
    print(f"h = {h}: {len(by_class_number[h])} discriminants", by_class_number[h])

print("forms of discriminant -23:", reduced_forms(-23))
primes = [p for p in range(2, 200) if all(p % d for d in range(2, math.isqrt(p) + 1))]
principal = [p for p in primes if represents((1, 1, 6), p)]
print("primes x^2 + xy + 6y^2 below 200:", principal)
other = [p for p in primes if represents((2, 1, 3), p)]
print("primes 2x^2 + xy + 3y^2 below 200:", other)
print("disjoint:", not set(principal) & set(other))
