import multiprocessing
def f(shared, key):
    shared[key] = key * 2
if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        process = multiprocessing.Process(target=f, args=(shared, 4))
        process.start()
        process.join()
        print(dict(shared))
