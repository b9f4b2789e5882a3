"""What an interpreter does after a program's last statement, so that its exit code and its last words are the same.

The steps are those of CPython 3.11's and 3.12's pythonrun.c (`outcome`) and of Py_FinalizeEx in pylifecycle.c
(`finish`), in their order, but only for what the program made: preloaded modules go as they are when the process
ends. Not done: `sys.is_finalizing()` stays False, and threads and forks that 3.12 refuses at this time still start.
"""

from __future__ import annotations

import atexit
import builtins
import gc
import io
import os
import signal
import sys
import weakref
from operator import methodcaller
from types import ModuleType
from typing import cast

from sandbox_service.inside.callstack import attempt

vars()["__builtins__"] = dict(vars(builtins))  # for the functions below, whatever a program does to its own

_FLUSH_FAILED = 120
_KEEPS_LAST_EXCEPTION = _SHOWS_FAILED_EXIT = sys.version_info >= (3, 12)
_threading: ModuleType | None = None
_thread_endings = 0
_late_collections = 0
_write = os.write  # a program may replace it in `os`
_flush, _shut_down = methodcaller("flush"), methodcaller("_shutdown")
_count_exit_functions = atexit._ncallbacks
_no_module = ModuleType("__main__")
_UnraisableArguments: type[tuple[object, ...]]
_show_exception = sys.__excepthook__


def outcome(error: BaseException | None, namespace: dict[str, object]) -> int:
    """Report `error`, which ended the program; return the exit code, or minus a signal that is to end the process."""
    flush(getattr(sys, "stderr", None))
    flush(getattr(sys, "stdout", None))
    if isinstance(error, SystemExit):
        return _exit_code(error)
    status = 0 if error is None else _report(error)
    namespace.pop("__file__", None)
    namespace.pop("__cached__", None)
    return -signal.SIGINT if type(error) is KeyboardInterrupt else status


def finish(status: int) -> int:
    """End threads, call what is registered for the exit, flush, and drop what the program made; return the status."""
    threading = sys.modules.get("threading")
    if threading is not None and (_count_exit_functions() or _has_threads(threading)):
        failure = attempt(_shut_down, threading)
        if failure is not None:
            _report_unraisable(failure, threading)
    if _count_exit_functions():
        attempt(atexit._run_exitfuncs)
    return let_go(status)


def let_go(status: int) -> int:
    """The part of `finish` that leaves what was there before the program as it is."""
    stdout, stderr = getattr(sys, "stdout", None), getattr(sys, "stderr", None)
    failure = flush(stdout)
    if failure is not None:
        _report_unraisable(failure, stdout)
    if (flush(stderr) or failure) and status >= 0:
        status = _FLUSH_FAILED
    del stdout, stderr
    _drop_program()
    flush(sys.__stdout__)
    flush(sys.__stderr__)
    return status


def flush(stream: object) -> BaseException | None:
    """Flush one of the program's streams, which can be any object; return what it raised."""
    if stream is None:
        return None
    try:
        closed = bool(stream.closed)  # type: ignore[attr-defined]
    except BaseException:
        closed = False
    return None if closed else attempt(_flush, stream)


def prepare() -> None:
    """Find the type of what sys.unraisablehook takes; it has no name of its own."""
    global _UnraisableArguments

    class Failing:
        def __del__(self) -> None:
            raise Warning

    seen: list[object] = []
    kept, sys.unraisablehook = sys.unraisablehook, seen.append
    attempt(Failing)
    sys.unraisablehook = kept
    _UnraisableArguments = cast(type[tuple[object, ...]], type(seen[0]))


def remember_beginning() -> None:
    """Called last in the zygote: what differs from now in a child is the program's work."""
    global _threading, _thread_endings, _late_collections
    _threading = sys.modules.get("threading")
    _thread_endings = _count_thread_endings(_threading) if _threading else 0
    _late_collections = _count_late_collections()


def _exit_code(error: SystemExit) -> int:
    """As _Py_HandleSystemExit() does it."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        if -(2**63) <= code < 2**63:
            return code & 0xFF
        _show_failed_exit(OverflowError("Python int too large to convert to C long"))
        return 0xFF
    failure = attempt(_write_error, code)
    if attempt(_write_error, "\n") is not None:
        attempt(_write, 2, b"\n")
    if failure is not None:
        theirs = failure.__traceback__ and failure.__traceback__.tb_next
        _show_failed_exit(failure.with_traceback(theirs))
    return 1


def _show_failed_exit(error: BaseException) -> None:
    """Show what was wrong with an exit code. In 3.11 it is forgotten."""
    if _SHOWS_FAILED_EXIT and isinstance(getattr(sys, "stderr", None), io.TextIOWrapper):
        attempt(_show_exception, type(error), error, error.__traceback__)


def _report(error: BaseException) -> int:
    """Show an uncaught exception as PyErr_Print() does; return the exit code."""
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if _KEEPS_LAST_EXCEPTION:
        vars(sys)["last_exc"] = error
    hook = getattr(sys, "excepthook", None)
    if hook is None:
        _write_error("sys.excepthook is missing\n")
        hook = _show_exception
    failure = attempt(hook, type(error), error, error.__traceback__)
    if isinstance(failure, SystemExit):
        return _exit_code(failure)
    if failure is not None:
        _write_error("Error in sys.excepthook:\n")
        _show_exception(type(failure), failure, failure.__traceback__)
        _write_error("\nOriginal exception was:\n")
        _show_exception(type(error), error, error.__traceback__)
    return 1


def _report_unraisable(error: BaseException, where: object) -> None:
    """As PyErr_WriteUnraisable() does it."""
    arguments = _UnraisableArguments((type(error), error, error.__traceback__, None, where))
    attempt(getattr(sys, "unraisablehook", sys.__unraisablehook__), arguments)


def _write_error(text: object) -> None:
    """Write to sys.stderr, or past it where there is none, as PySys_WriteStderr() does."""
    stream = getattr(sys, "stderr", None)
    if stream is None:
        os.write(2, str(text).encode("utf-8", "backslashreplace"))
    else:
        stream.write(str(text))


def _drop_program() -> None:
    """Let go of what the program made, so that its finalizers run and its files are written out."""
    # A whole collection empties the free lists, which touches many pages; it is needed if a program has old objects.
    has_old_objects = _count_late_collections() != _late_collections
    gc.collect(2 if has_old_objects else 0)
    if "last_value" in vars(sys):  # `hasattr` would make an exception, and look for its names
        vars(sys).update(last_type=None, last_value=None, last_traceback=None, last_exc=None)
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
    main = weakref.ref(sys.modules.pop("__main__", _no_module))
    _leave_modules_half_dead()
    attempt(gc.collect, 2 if has_old_objects else 1)
    if (module := main()) is not None:
        _clear(module.__dict__)


def _has_threads(threading: ModuleType) -> bool:
    """Whether threading._shutdown() has something to do, or is not the one we know. To call it is dear in pages."""
    return threading is not _threading or _count_thread_endings(threading) != _thread_endings


def _count_thread_endings(threading: ModuleType) -> int:
    """Count what it waits for (one lock per thread) and calls."""
    try:
        return len(threading._shutdown_locks) + len(threading._threading_atexits)
    except Exception:  # a program has changed it
        return -1


def _count_late_collections() -> int:
    """Count the collections that leave objects in the oldest generation."""
    return sum(generation["collections"] for generation in gc.get_stats()[1:])


def _leave_modules_half_dead() -> None:
    """A finalizer that runs this late can import nothing, and its traceback shows no source."""
    vars(sys).update(meta_path=None, path=None)
    sys.modules["io"] = None  # type: ignore[assignment]


def _clear(namespace: dict[str, object]) -> None:
    """As _PyModule_Clear() does: first the private names, then the others."""
    for private in (True, False):
        for name in list(namespace):
            if name != "__builtins__" and private == (name.startswith("_") and not name.startswith("__")):
                namespace[name] = None
