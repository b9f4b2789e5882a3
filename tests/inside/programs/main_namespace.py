import sys
print(__name__, __file__, __doc__, __package__, __spec__, __cached__, __annotations__, type(__loader__).__name__)
print(__loader__.name, __loader__.path, __builtins__ is sys.modules["builtins"])
print(list(globals()))
print(sys.modules["__main__"].__dict__ is globals())
print(dir())
