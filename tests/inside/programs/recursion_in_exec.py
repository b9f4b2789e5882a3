def f(n):
    return n and 1 + eval("f(n - 1)", {"f": f, "n": n})
print(f(100))
try:
    f(1000)
except RecursionError as error:
    print("depth:", error)
