import logging, atexit, weakref
logging.basicConfig(filename="a.log", level=logging.DEBUG)
logging.info("x")
class K: pass
k=K(); weakref.finalize(k, lambda: logging.info("finalize"))
atexit.register(lambda: (logging.info("atexit"), print(open("a.log").read())))
class A:
    def __del__(self): print(open("a.log").read()) if 0 else print("A", logging.getLogger().handlers)
a=A()
