import atexit, sys
atexit.register(lambda: print("ran", "__file__" in globals()))
sys.exit(3)
