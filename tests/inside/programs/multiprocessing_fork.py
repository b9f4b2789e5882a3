import multiprocessing
def f(x):
    return x + 1
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Pool(2) as pool:
        print(pool.map(f, range(6)))
    queue = context.Queue()
    process = context.Process(target=queue.put, args=("hello",))
    process.start()
    print(queue.get(), process.name)
    process.join()
    print(process.exitcode)
