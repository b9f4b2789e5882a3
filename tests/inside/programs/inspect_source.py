import inspect
def f(a, b=2):
    # a comment
    return a + b
class C:
    def m(self):
        pass
print(inspect.getsource(f))
print(inspect.getsource(C), inspect.getsourcefile(C), inspect.getmodule(f), inspect.signature(f))
