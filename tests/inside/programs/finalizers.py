import weakref
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
