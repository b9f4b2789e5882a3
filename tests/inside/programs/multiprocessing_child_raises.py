import multiprocessing
def f():
    raise ValueError("in the child")
process = multiprocessing.Process(target=f)
process.start()
process.join()
print(process.exitcode)
