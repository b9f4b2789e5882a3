import gc, threading, os, warnings, locale, faulthandler, builtins, sys
print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.garbage)
print(threading.active_count(), threading.current_thread(), threading.main_thread().native_id == os.getpid())
print(threading.get_ident() == threading.main_thread().ident, threading.get_native_id() == os.getpid())
print(locale.setlocale(locale.LC_ALL), faulthandler.is_enabled(), oct(os.umask(0o22)))
print(hasattr(builtins, "_"), sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__, sys.unraisablehook is sys.__unraisablehook__)
print(os.listdir("/proc/self/task") == [str(os.getpid())], len(os.listdir("/proc/self/fd")))
import asyncio, decimal, random, tempfile, logging, multiprocessing
print(decimal.getcontext(), tempfile.gettempdir(), logging.root, logging.root.handlers, multiprocessing.current_process())
