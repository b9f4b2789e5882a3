import sys
def hook(kind, error, traceback):
    sys.exit(11)
sys.excepthook = hook
raise ValueError("x")
