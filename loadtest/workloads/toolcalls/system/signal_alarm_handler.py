# status: ok
# stdout: the search was stopped by our own alarm

import signal
import time

class Timeout(Exception):
    pass

def handler(signum, frame):
    raise Timeout

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    while True:
        time.sleep(0.01)
except Timeout:
    print("the search was stopped by our own alarm")
