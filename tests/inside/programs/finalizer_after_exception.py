class A:
    def __init__(self, name):
        self.name = name
    def __del__(self):
        print("del", self.name)
def f():
    local = A("local")
    raise ValueError("x")
g = A("global")
f()
