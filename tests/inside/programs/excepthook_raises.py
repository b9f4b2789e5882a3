import sys
def hook(kind, error, traceback):
    raise RuntimeError("the hook is broken")
sys.excepthook = hook
raise ValueError("x")
