from multiprocessing import Lock, Process, Value, shared_memory
def f(value, lock, name):
    with lock:
        value.value += 1
    block = shared_memory.SharedMemory(name)
    block.buf[0] += 1
    block.close()
value, lock = Value("i", 0), Lock()
block = shared_memory.SharedMemory(create=True, size=10)
processes = [Process(target=f, args=(value, lock, block.name)) for _ in range(3)]
for process in processes:
    process.start()
for process in processes:
    process.join()
print(value.value, block.buf[0])
block.close()
block.unlink()
