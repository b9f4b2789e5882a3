import atexit
def a():
    print("a")
    atexit.register(b)
def b():
    print("b")
atexit.register(a)
