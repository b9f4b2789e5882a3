import logging, logging.handlers
target = logging.StreamHandler()
logging.getLogger().addHandler(logging.handlers.MemoryHandler(100, target=target))
logging.warning("flushed at exit")
