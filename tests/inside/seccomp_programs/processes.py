"""multiprocessing in its three start methods, with its locks, queues and shared memory; executors."""

import multiprocessing as mp
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import shared_memory


def double(number):
    return 2 * number


def main():
    for method in ("fork", "spawn", "forkserver"):
        context = mp.get_context(method)
        with context.Pool(2) as pool:
            assert pool.map(double, range(10)) == [2 * n for n in range(10)]
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            assert list(executor.map(double, range(5))) == [0, 2, 4, 6, 8]
    with ThreadPoolExecutor(4) as executor:
        assert sum(executor.map(double, range(100))) == 9900
    with mp.Manager() as manager:
        shared = manager.dict(a=1)
        assert shared["a"] == 1
    queue, lock, event = mp.Queue(), mp.Lock(), mp.Event()
    with lock:
        queue.put(event.is_set())
    assert queue.get() is False
    block = shared_memory.SharedMemory(create=True, size=4096)
    block.buf[0] = 7
    block.close()
    block.unlink()
    print("good")


if __name__ == "__main__":
    main()
