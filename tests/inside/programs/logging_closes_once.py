import logging
class H(logging.Handler):
    def emit(self, r): pass
    def flush(self): print("flush")
    def close(self):
        print("close"); super().close()
h = H(); logging.getLogger().addHandler(h)
