import atexit, logging, logging.handlers, sys
h = logging.handlers.MemoryHandler(100, target=logging.StreamHandler(sys.stdout))
logging.getLogger().addHandler(h)
logging.warning("kept back")
atexit.unregister(logging.shutdown)
