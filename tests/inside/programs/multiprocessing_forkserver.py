import multiprocessing
def f(x):
    return x * 10
if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        print(pool.map(f, range(3)))
