import threading, contextvars
local = threading.local()
local.x = 1
var = contextvars.ContextVar("v", default="unset")
var.set("main")
def work():
    print(hasattr(local, "x"), var.get())
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(len(contextvars.copy_context()))
