import gc
import weakref
gc.set_threshold(100_000)  # the end of the program collects, no count that start-up has left somewhere near its limit
class A:
    def __init__(self, name):
        self.name = name
    def __del__(self):
        print("del", self.name)
a = A("global")
_private = A("private")
cycle = A("cycle")
cycle.me = cycle
cycle = None
b = A("in a function's default")
def f(x=A("default")):
    return a
weakref.finalize(a, print, "finalize a")
temporary = A("rebound")
temporary = A("second")
print("end")
