import logging, logging.config
class H(logging.Handler):
    def __init__(self): super().__init__(); self.n = 0
    def emit(self, r): self.n += 1
    def close(self):
        print("records:", self.n); super().close()
logging.config.dictConfig({"version": 1, "handlers": {"h": {"()": H}}, "root": {"handlers": ["h"], "level": "INFO"}})
logging.info("a"); logging.info("b")
