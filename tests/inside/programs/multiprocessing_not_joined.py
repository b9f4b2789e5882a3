import multiprocessing, time
def f():
    time.sleep(0.1)
    print("child done", flush=True)
multiprocessing.Process(target=f).start()
print("main ends", flush=True)
