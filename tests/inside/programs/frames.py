import sys, inspect
print(sys._getframe().f_back, len(inspect.stack()))
try:
    sys._getframe(1)
except ValueError as error:
    print(error)
def f():
    return [f.function for f in inspect.stack()]
print(f())
import atexit
atexit.register(lambda: print("atexit", len(inspect.stack())))
