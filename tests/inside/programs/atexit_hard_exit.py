import atexit, os
atexit.register(lambda: (print("flushed?"), os._exit(6)))
print("end")
