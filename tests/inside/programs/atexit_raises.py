import atexit
def bad():
    raise ValueError("in atexit")
def leave():
    raise SystemExit(5)
atexit.register(print, "good")
atexit.register(bad)
atexit.register(leave)
