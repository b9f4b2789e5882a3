import logging
logging.debug("mine")
