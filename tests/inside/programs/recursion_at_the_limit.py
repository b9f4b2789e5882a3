def f(n):
    return 0 if n == 0 else 1 + f(n - 1)
print(f(998))
try:
    print(f(999))
except RecursionError:
    print("one too deep")
