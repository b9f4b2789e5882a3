# status: signaled
# signal: SIGABRT
# stdout: giving up

import os
import sys

sys.stdout.write("giving up\n")
sys.stdout.flush()
os.abort()
