import atexit, sys
atexit.register(print, "first registered")
@atexit.register
def last():
    print("last registered", __name__, "__file__" in globals(), sys.modules["__main__"].__dict__ is globals())
def removed():
    print("never")
atexit.register(removed)
atexit.unregister(removed)
print("end")
