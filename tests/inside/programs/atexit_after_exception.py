import atexit, sys
atexit.register(lambda: print("ran", sys.last_type, "__file__" in globals()))
raise ValueError("x")
