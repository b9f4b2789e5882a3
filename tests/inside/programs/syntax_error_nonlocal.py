import warnings
if 1 is 1: pass
def f():
    nonlocal x
