# status: ok
# stdout: thread failed: ZeroDivisionError
# stdout: main goes on

import threading

threading.excepthook = lambda args: print("thread failed:", args.exc_type.__name__)
t = threading.Thread(target=lambda: 1/0)
t.start()
t.join()
print("main goes on")
