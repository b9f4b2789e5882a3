import multiprocessing
print("imported as", __name__, flush=True)
def f(x):
    return x * 10
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        print(pool.map(f, range(3)))
