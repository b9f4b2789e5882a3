# status: ok
# stdout: 0 11.0 [3.0, 1.0]

from scipy.optimize import linprog

# maximize 3x + 2y s.t. x + y <= 4, x + 3y <= 6, x <= 3
res = linprog([-3, -2], A_ub=[[1, 1], [1, 3]], b_ub=[4, 6], bounds=[(0, 3), (0, None)])
print(res.status, round(-res.fun, 8), [round(float(v), 8) for v in res.x])
