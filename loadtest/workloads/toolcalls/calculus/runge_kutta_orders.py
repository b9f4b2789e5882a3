# status: ok
# stdout_sha256: b695319d909510b70ecb1fcfec78e4648cb3a2e3a4136509d7498dc168f99d52

# Compare Euler, Heun and classical Runge-Kutta on y' = y cos(t), y(0) = 1, whose solution is exp(sin t): estimate the
# order of each from halving the step, then integrate a planet's orbit and watch the energy.
import math


def euler(f, t, y, h):
    return [a + h*b for a, b in zip(y, f(t, y))]


def heun(f, t, y, h):
    k1 = f(t, y)
    k2 = f(t + h, [a + h*b for a, b in zip(y, k1)])
    return [a + h*(p + q)/2 for a, p, q in zip(y, k1, k2)]


def rk4(f, t, y, h):
    k1 = f(t, y)
    k2 = f(t + h/2, [a + h*b/2 for a, b in zip(y, k1)])
    k3 = f(t + h/2, [a + h*b/2 for a, b in zip(y, k2)])
    k4 = f(t + h, [a + h*b for a, b in zip(y, k3)])
    return [a + h*(p + 2*q + 2*r + s)/6 for a, p, q, r, s in zip(y, k1, k2, k3, k4)]


def integrate(step, f, y0, t_end, n):
    t, y, h = 0.0, list(y0), t_end/n
    for _ in range(n):
        y = step(f, t, y, h)
        t += h
    return y


def growth(t, y):
    return [y[0]*math.cos(t)]


exact = math.exp(math.sin(2.0))
print("method   n    error      order")
for step in (euler, heun, rk4):
    previous = None
    for n in (20, 40, 80, 160):
        error = abs(integrate(step, growth, [1.0], 2.0, n)[0] - exact)
        order = "" if previous is None else f"{math.log2(previous/error):.1f}"
        print(f"{step.__name__:6s} {n:4d}  {error:.2e}   {order}")
        previous = error


# --- Kepler's problem: x'' = -x/r^3, circular orbit of period 2 pi; the energy is -1/2 ---
def kepler(t, s):
    x, y, vx, vy = s
    r3 = (x*x + y*y)**1.5
    return [vx, vy, -x/r3, -y/r3]


def energy(s):
    x, y, vx, vy = s
    return (vx*vx + vy*vy)/2 - 1/math.hypot(x, y)


def leapfrog(n, t_end):
    """Symplectic: kick, drift, kick."""
    h = t_end/n
    x, y, vx, vy = 1.0, 0.0, 0.0, 1.0
    for _ in range(n):
        r3 = (x*x + y*y)**1.5
        vx -= h/2*x/r3
        vy -= h/2*y/r3
        x += h*vx
        y += h*vy
        r3 = (x*x + y*y)**1.5
        vx -= h/2*x/r3
        vy -= h/2*y/r3
    return [x, y, vx, vy]


print("energy after five orbits (exact -0.5)")
for name, state in (
    ("euler", integrate(euler, kepler, [1, 0, 0, 1], 10*math.pi, 2000)),
    ("heun", integrate(heun, kepler, [1, 0, 0, 1], 10*math.pi, 2000)),
    ("rk4", integrate(rk4, kepler, [1, 0, 0, 1], 10*math.pi, 2000)),
    ("leapfrog", leapfrog(2000, 10*math.pi)),
):
    print(f"{name:9s} {energy(state):.4f}")
