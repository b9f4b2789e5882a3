import builtins
builtins.print = lambda *a: __import__("sys").stdout.write("custom\n")
print("x")
builtins.open = None
len = 5
del builtins.exec, builtins.compile, builtins.getattr, builtins.isinstance, builtins.type
