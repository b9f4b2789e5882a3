import sys, logging
class H(logging.Handler):
    def emit(self, r): pass
    def close(self):
        print("close"); super().close()
h = H(); logging.getLogger().addHandler(h)
del sys.modules["logging"]
import logging
print("end")
