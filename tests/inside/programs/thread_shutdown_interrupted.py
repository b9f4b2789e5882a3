import signal, threading, time
def handler(number, frame):
    raise TimeoutError("while waiting for threads")
signal.signal(signal.SIGALRM, handler)
threading.Thread(target=time.sleep, args=(0.3,)).start()
signal.setitimer(signal.ITIMER_REAL, 0.1)
print("end")
