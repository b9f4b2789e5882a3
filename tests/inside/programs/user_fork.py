import os, sys
print("before")
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    print("child", __name__)
    sys.exit(9)
print("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
