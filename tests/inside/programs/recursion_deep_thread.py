import sys, threading
sys.setrecursionlimit(10**6)
threading.stack_size(256 << 20)
def f(n):
    return n and 1 + f(n - 1)
thread = threading.Thread(target=lambda: print(f(50000)))
thread.start()
thread.join()
