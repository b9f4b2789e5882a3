import sys
def hook(unraisable):
    print("unraisable", unraisable.exc_type.__name__, unraisable.err_msg)
sys.unraisablehook = hook
class A:
    def __del__(self):
        1 / 0
A()
