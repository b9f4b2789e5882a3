# status: timed_out
# limit: wall
# limits: wall_s=1

import threading

lock = threading.Lock()

def worker():
    with lock:
        with lock:
            print("never")

t = threading.Thread(target=worker)
t.start()
t.join()
