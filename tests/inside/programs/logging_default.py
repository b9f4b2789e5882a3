import logging
logging.warning("to stderr")
logging.info("hidden")
logging.basicConfig(level=logging.DEBUG, format="%(levelname)s:%(funcName)s:%(lineno)d:%(filename)s:%(processName)s:%(threadName)s:%(message)s")
def f():
    logging.debug("from f")
f()
logging.basicConfig(level=logging.INFO, force=True)
logging.getLogger("mine").info("formatted %d", 3)
logging.error("bad %d", "format")
