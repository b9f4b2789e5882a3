# status: ok
# stdout: E = 31.000000+0.000000j
# stdout: F = -24.000000-120.000000j
# stdout: Miquel point O = 30.000000000-6.000000000j
# stdout: O lies on the other two circles: True True
# stdout: spiral similarity B->C and A->D agree: True
# stdout: ratio = 1.013793755050, angle = -9.462322208 degrees
# stdout: ratio squared = 1.027777777778
# stdout: Ptolemy: True 0.511599968

# Verify numerically that O, the Miquel point of the quadrilateral, is the centre of the spiral similarity that
# sends AB to DC, and report the ratio and the angle. All numbers with 12 digits so that one can guess the closed form.
import cmath
import math

A, B, C, D = 0 + 0j, 6 + 0j, 7 + 4j, 1 + 5j


def line_intersection(p, q, r, s):
    """Intersection of the lines pq and rs, as complex numbers."""
    d1, d2 = q - p, s - r
    denom = d1.real*d2.imag - d1.imag*d2.real
    if abs(denom) < 1e-12:
        raise ValueError("parallel lines")
    t = ((r - p).real*d2.imag - (r - p).imag*d2.real)/denom
    return p + t*d1


def circumcircle(p, q, r):
    ax, ay, bx, by, cx, cy = p.real, p.imag, q.real, q.imag, r.real, r.imag
    d = 2*(ax*(by - cy) + bx*(cy - ay) + cx*(ay - by))
    ux = ((ax*ax + ay*ay)*(by - cy) + (bx*bx + by*by)*(cy - ay) + (cx*cx + cy*cy)*(ay - by))/d
    uy = ((ax*ax + ay*ay)*(cx - bx) + (bx*bx + by*by)*(ax - cx) + (cx*cx + cy*cy)*(bx - ax))/d
    centre = complex(ux, uy)
    return centre, abs(centre - p)


def second_intersection(c1, c2, known):
    """The other intersection of two circles that meet at `known`: reflect it in the line of centres."""
    direction = (c2 - c1)/abs(c2 - c1)
    v = known - c1
    return c1 + direction*(v/direction).conjugate()


E = line_intersection(A, B, C, D)
F = line_intersection(B, C, A, D)
print(f"E = {E:.6f}")
print(f"F = {F:.6f}")

c1, r1 = circumcircle(E, B, C)
c2, r2 = circumcircle(E, A, D)
O = second_intersection(c1, c2, E)
print(f"Miquel point O = {O:.9f}")

c3, r3 = circumcircle(F, A, B)
c4, r4 = circumcircle(F, C, D)
print("O lies on the other two circles:", abs(abs(O - c3) - r3) < 1e-9, abs(abs(O - c4) - r4) < 1e-9)

k1 = (C - O)/(B - O)
k2 = (D - O)/(A - O)
print("spiral similarity B->C and A->D agree:", abs(k1 - k2) < 1e-9)
print(f"ratio = {abs(k1):.12f}, angle = {math.degrees(cmath.phase(k1)):.9f} degrees")
print(f"ratio squared = {abs(k1)**2:.12f}")

# Ptolemy's inequality as a last sanity check on the four points
lhs = abs(A - B)*abs(C - D) + abs(B - C)*abs(D - A)
rhs = abs(A - C)*abs(B - D)
print("Ptolemy:", lhs > rhs, f"{lhs - rhs:.9f}")
