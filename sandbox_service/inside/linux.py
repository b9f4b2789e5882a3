"""The few Linux calls that the standard library lacks; each raises OSError on failure.

They go through PyDLL, which keeps the GIL: releasing and taking it again would touch pages that a freshly forked
child then has to copy.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 0x1, 0x2, 0x4, 0x8, 0x20
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 0x2

PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 4, 24, 47, 4
_LAST_CAPABILITY_FILE = "/proc/sys/kernel/cap_last_cap"
_CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.PyDLL(None)
libc.__errno_location.restype = ctypes.c_void_p
# The errno of the main thread, which is at the same place after a fork. Python's own copy of it costs each call pages.
_errno = ctypes.c_int.from_address(libc.__errno_location())

Call = tuple[Callable[..., int], tuple[Any, ...]]
"""A function of the C library and its arguments."""


def do(calls: Iterable[Call]) -> None:
    """Make the calls one after the other; OSError for the first that returns a negative number."""
    for function, arguments in calls:
        if function(*arguments) < 0:
            raise OSError(_errno.value, f"{function.__name__}{arguments}: {os.strerror(_errno.value)}")


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise OSError(_errno.value, f"{what}: {os.strerror(_errno.value)}")
    return result


def fork() -> int:
    """Fork without CPython's after-fork hooks, which would touch hundreds of pages; the runner does their work.

    Only for a process with a single thread: the GIL is held throughout, so the child holds it too.
    """
    return _checked(libc.fork(), "fork")


def setns(fd: int, kinds: int) -> None:
    _checked(libc.setns(fd, kinds), "setns")


def unshare(kinds: int) -> None:
    _checked(libc.unshare(kinds), "unshare")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    _checked(
        libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()),
        f"mount {kind} on {target}",
    )


def unmount(target: str, flags: int = 0) -> None:
    _checked(libc.umount2(target.encode(), flags), f"umount {target}")


def close_from(first: int) -> None:
    _checked(libc.close_range(first, 0xFFFFFFFF, 0), "close_range")


def set_dumpable(dumpable: bool) -> None:
    _checked(libc.prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def forbid_capabilities_to_children() -> None:
    """Empty the bounding, inheritable and ambient sets; what this process holds, it keeps.

    A child that then changes from uid 0 to another uid has all five sets empty.
    """
    with open(_LAST_CAPABILITY_FILE) as file:
        last = int(file.read())
    for capability in range(last + 1):
        _checked(libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl(PR_CAPBSET_DROP)")
    _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl(PR_CAP_AMBIENT)")
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)()
    _checked(libc.capget(ctypes.byref(header), data), "capget")
    for part in data:
        part.inheritable = 0
    _checked(libc.capset(ctypes.byref(header), data), "capset")
