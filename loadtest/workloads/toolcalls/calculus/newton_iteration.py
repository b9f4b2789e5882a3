# status: ok
# stdout: iter 0: x = 2.100000000000
# stdout: iter 1: x = 2.094568121104
# stdout: iter 2: x = 2.094551481698
# stdout: iter 3: x = 2.094551481542
# stdout: iter 4: x = 2.094551481542
# stdout: root: 2.0945514815

def newton(f, df, x0, tol=1e-14, maxit=50):
    x = x0
    for i in range(maxit):
        step = f(x)/df(x)
        x -= step
        print(f"iter {i}: x = {x:.12f}")
        if abs(step) < tol:
            break
    return x

r = newton(lambda x: x**3 - 2*x - 5, lambda x: 3*x**2 - 2, 2.0)
print("root:", round(r, 10))
