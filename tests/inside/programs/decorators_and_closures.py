import functools
@functools.lru_cache(None)
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
print(fib(90), fib.cache_info())
@functools.singledispatch
def show(x):
    return "object"
@show.register
def _(x: int):
    return "int"
print(show(1), show("x"))
