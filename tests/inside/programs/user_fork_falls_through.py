import atexit, os, sys
atexit.register(lambda: print("atexit in", "child" if child else "parent"))
child = os.fork() == 0
if not child:
    os.wait()
print("end of", "child" if child else "parent")
