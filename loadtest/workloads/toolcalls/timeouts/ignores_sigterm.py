# status: timed_out
# limits: wall_s=1

import signal
import time

for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGALRM):
    signal.signal(s, signal.SIG_IGN)
try:
    while True:
        time.sleep(0.1)
finally:
    print("cleaned up")
