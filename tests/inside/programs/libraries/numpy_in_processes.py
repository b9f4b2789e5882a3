import multiprocessing
import numpy as np
def f(n):
    return float(np.linalg.norm(np.ones(n)))
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(pool.map(f, [1, 4, 9]))
