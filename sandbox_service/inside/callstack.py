"""The bottom of the call stack, as a program sees it: nothing below its own `<module>`.

A program started by `python main.py` has no frame below its first one, and its whole recursion limit. In a forked
child the zygote's frames lie below, so that tracebacks of `traceback.print_stack`, `inspect.stack`, `sys._getframe`,
the `stacklevel` of a warning and the depth of a RecursionError would differ, and a program could look into our
frames. So a call from here tells CPython that no frame is running, as greenlet does when it starts a stack.

It knows where CPython 3.11 and 3.12 keep this and verifies it before use; in other versions the frames stay visible.
"""

from __future__ import annotations

import builtins
import ctypes
import sys
from collections.abc import Callable

vars()["__builtins__"] = dict(vars(builtins))  # for the functions below, whatever a program does to its own

# Offsets in PyThreadState, _PyCFrame and _PyInterpreterFrame (pystate.h, pycore_frame.h) by version, 64 bits.
_KNOWN = {(3, 11): ((32, 36, 56), 8, 32), (3, 12): ((28, 32, 56), 0, 0)}
_VERSION = sys.version_info[:2]
(_RECURSION_REMAINING, _RECURSION_LIMIT, _CFRAME), _CURRENT_FRAME, _FRAME_CODE = _KNOWN.get(_VERSION, _KNOWN[3, 11])
_C_RECURSION_REMAINING = 36 if _VERSION == (3, 12) else None
_C_RECURSION_LIMIT = 10_000
"""That of CPython 3.13. 3.12 began with 1,500, of which a function under `lru_cache` takes three a call: one that calls
itself 500 times would fail, whatever it sets the recursion limit to, and under 3.11 it does not."""
_CALLS_BELOW = 1 if _VERSION == (3, 11) else 0
"""What a call from here takes of the recursion budget, more than the interpreter's own call of a program does."""

_no_frame = (ctypes.c_void_p * 2)()
_cframe = ctypes.c_void_p(ctypes.addressof(_no_frame))
_remaining = ctypes.c_int()
_c_remaining = ctypes.c_int()


def prepare() -> None:
    """Find the state of this thread, which must be the one that will call; RuntimeError if it looks unfamiliar."""
    global _cframe, _remaining, _c_remaining
    if sys.implementation.name != "cpython" or _VERSION not in _KNOWN:
        return
    get_thread_state = ctypes.PyDLL(None).PyThreadState_Get
    get_thread_state.restype = ctypes.c_void_p
    address = get_thread_state()
    cframe = ctypes.c_void_p.from_address(address + _CFRAME)
    frame = ctypes.c_void_p.from_address((cframe.value or 0) + _CURRENT_FRAME)
    code = ctypes.c_void_p.from_address((frame.value or 0) + _FRAME_CODE)
    limit = ctypes.c_int.from_address(address + _RECURSION_LIMIT)
    if code.value != id(prepare.__code__) or limit.value != sys.getrecursionlimit():
        raise RuntimeError(f"this interpreter's thread state is not laid out as it should be: {sys.version}")
    _cframe, _remaining = cframe, ctypes.c_int.from_address(address + _RECURSION_REMAINING)
    if _C_RECURSION_REMAINING is not None:
        _c_remaining = ctypes.c_int.from_address(address + _C_RECURSION_REMAINING)
        if not 500 < _c_remaining.value < 100_000:
            raise RuntimeError(f"this interpreter counts its recursion in C in another way: {sys.version}")


def attempt(function: Callable[..., object], *arguments: object) -> BaseException | None:
    """Call `function` with nothing below it on the stack; return what it raised, its traceback without our frames.

    When a Python function returns it puts its caller's frame back, so nothing has to be undone. The star matters: a
    call of this form is never specialised, so that it always costs the recursion budget the same.
    """
    try:
        _remaining.value = sys.getrecursionlimit() + _CALLS_BELOW
        _c_remaining.value = _C_RECURSION_LIMIT
        ctypes.c_void_p.from_address((_cframe.value or 0) + _CURRENT_FRAME).value = None
        function(*arguments)
    except BaseException as error:
        traceback = error.__traceback__
        return error.with_traceback(traceback and traceback.tb_next)
    return None
