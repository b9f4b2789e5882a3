from concurrent.futures import ThreadPoolExecutor, as_completed
def f(x):
    if x == 3:
        raise ValueError("three")
    return x * x
with ThreadPoolExecutor(4) as pool:
    print(list(pool.map(f, [1, 2, 4])))
    print(repr(pool.submit(f, 3).exception()))
left = ThreadPoolExecutor(1)
left.submit(lambda: print("not shut down by hand"))
