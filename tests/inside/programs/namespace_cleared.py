import atexit
atexit.register(print, "atexit")
print("end")
globals().clear()
