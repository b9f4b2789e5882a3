import sys
def hook(kind, error, traceback):
    print("hook", kind.__name__, error, traceback.tb_lineno, traceback.tb_frame.f_code.co_name, sys.exc_info())
sys.excepthook = hook
raise ValueError("x")
