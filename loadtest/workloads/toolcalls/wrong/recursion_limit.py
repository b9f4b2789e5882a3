# status: failed
# last_error: RecursionError: maximum recursion depth exceeded
# stdout: 3628800

def f(n):
    return 1 if n == 0 else n*f(n - 1)

print(f(10))
print(f(5000) > 0)
