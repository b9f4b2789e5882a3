# status: ok
# stdout: explicit scheme
# stdout: nx= 10 steps=  25 error=4.29e-03
# stdout: nx= 20 steps= 100 error=1.06e-03  order 2.0
# stdout: nx= 40 steps= 400 error=2.65e-04  order 2.0
# stdout: Crank-Nicolson
# stdout: nx= 10 steps=  10 error=2.73e-03
# stdout: nx= 20 steps=  20 error=6.82e-04  order 2.0
# stdout: nx= 40 steps=  40 error=1.70e-04  order 2.0
# stdout: nx= 80 steps=  80 error=4.26e-05  order 2.0
# stdout: unstable for ratio 0.6: True

# Explicit scheme for u_t = u_xx on [0,1] with u = 0 at the ends; compare with the exact solution exp(-pi^2 t) sin(pi x).
# Then repeat with Crank-Nicolson, check the orders of convergence, and report a small table.
import numpy as np
from scipy.linalg import solve_banded


def exact(x, t):
    return np.exp(-np.pi**2*t)*np.sin(np.pi*x)


def explicit(nx, t_end, ratio=0.4):
    """Forward Euler in time; `ratio` = dt/dx^2 must be at most one half."""
    x = np.linspace(0, 1, nx + 1)
    dx = x[1] - x[0]
    steps = int(np.ceil(t_end/(ratio*dx**2)))
    dt = t_end/steps
    r = dt/dx**2
    assert r <= 0.5, "unstable"
    u = np.sin(np.pi*x)
    for _ in range(steps):
        u[1:-1] += r*(u[2:] - 2*u[1:-1] + u[:-2])
    return x, u, steps


def crank_nicolson(nx, t_end, steps):
    x = np.linspace(0, 1, nx + 1)
    dx = x[1] - x[0]
    dt = t_end/steps
    r = dt/(2*dx**2)
    n = nx - 1
    bands = np.zeros((3, n))
    bands[0, 1:] = -r
    bands[1, :] = 1 + 2*r
    bands[2, :-1] = -r
    u = np.sin(np.pi*x)
    for _ in range(steps):
        rhs = u[1:-1] + r*(u[2:] - 2*u[1:-1] + u[:-2])
        u[1:-1] = solve_banded((1, 1), bands, rhs)
    return x, u


t_end = 0.1
print("explicit scheme")
previous = None
for nx in (10, 20, 40):
    x, u, steps = explicit(nx, t_end)
    err = np.abs(u - exact(x, t_end)).max()
    order = "" if previous is None else f"  order {np.log2(previous/err):.1f}"
    print(f"nx={nx:3d} steps={steps:4d} error={err:.2e}{order}")
    previous = err

print("Crank-Nicolson")
previous = None
for nx, steps in ((10, 10), (20, 20), (40, 40), (80, 80)):
    x, u = crank_nicolson(nx, t_end, steps)
    err = np.abs(u - exact(x, t_end)).max()
    order = "" if previous is None else f"  order {np.log2(previous/err):.1f}"
    print(f"nx={nx:3d} steps={steps:4d} error={err:.2e}{order}")
    previous = err

# The explicit scheme blows up when the ratio is above one half: show it without the assertion
x = np.linspace(0, 1, 21)
u = np.sin(np.pi*x) + 1e-6*np.sin(19*np.pi*x)
for k in range(200):
    u[1:-1] += 0.6*(u[2:] - 2*u[1:-1] + u[:-2])
print("unstable for ratio 0.6:", bool(np.abs(u).max() > 1e3))
