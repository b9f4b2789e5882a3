"""Gather CPython's arenas in the C library's heap while the zygote is made, so that nearly all it has is one mapping.

Each arena (1 MiB) is else a mapping between those of shared libraries, too small for a huge page. Forking what lies on
huge pages takes less even after they were split: their pages are copied and freed by the run, not one by one.
"""

from __future__ import annotations

import ctypes
import gc

_ARENA = 1 << 20
PAGE, HUGE_PAGE = 4 << 10, 2 << 20
_RAW = 0
"""PYMEM_DOMAIN_RAW: what calls the C library."""


class _Allocator(ctypes.Structure):
    """PyMemAllocatorEx."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free"))


class _ArenaAllocator(ctypes.Structure):
    """PyObjectArenaAllocator: `alloc(ctx, size)` and `free(ctx, address, size)`."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("ctx", "alloc", "free"))


_libc = ctypes.PyDLL(None)
_libc.sbrk.argtypes = (ctypes.c_ssize_t,)
_libc.sbrk.restype = _libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes, _libc.free.argtypes = (ctypes.c_size_t,), (ctypes.c_void_p,)
_own = _ArenaAllocator()
_anchors: list[object] = []


def gather() -> None:
    """From now on arenas are made and freed by the C library. Called before anything else is imported.

    Arenas that are there already may not be: so each of their objects stays until `scatter`.
    """
    raw = _Allocator()
    ctypes.pythonapi.PyMem_GetAllocator(_RAW, ctypes.byref(raw))
    ctypes.pythonapi.PyObject_GetArenaAllocator(ctypes.byref(_own))
    arenas = ctypes.byref(_ArenaAllocator(raw.ctx, raw.malloc, raw.free))
    to_huge_page()
    # It maps what is large apart, until a block of that size was freed for the first time (mallopt(3)).
    _libc.free(_libc.malloc(_ARENA + 2 * PAGE))
    _anchors.extend(gc.get_objects())
    ctypes.pythonapi.PyObject_SetArenaAllocator(arenas)


def scatter() -> None:
    """From now on a new arena is a mapping of its own again, as in any interpreter, and goes back to the kernel when it
    is free. For one of the heap the kernel refuses that, or takes it out of the middle of its block: it stays."""
    if _anchors:
        ctypes.pythonapi.PyObject_SetArenaAllocator(ctypes.byref(_own))
        _anchors.clear()


def to_huge_page() -> None:
    """Let the heap end, and what comes next begin, on a huge page; what is skipped takes no memory."""
    _libc.sbrk(-_libc.sbrk(0) % HUGE_PAGE)
