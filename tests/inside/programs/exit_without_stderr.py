import sys
del sys.stderr
class E:
    def __str__(self): raise ValueError("bad str")
sys.exit(E())
