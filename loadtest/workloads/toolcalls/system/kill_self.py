# status: signaled
# signal: SIGKILL

import os
import signal

print("lost, because it was never flushed")
os.kill(os.getpid(), signal.SIGKILL)
