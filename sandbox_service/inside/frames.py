"""Messages between the worker and a zygote, over one SOCK_SEQPACKET socket: one packet is one frame.

Every frame has the same fixed size, so that a reader never parses a length. The worker sends RUN with descriptors
(SCM_RIGHTS); what they hold is opened only by the forked child. The child holds no end of this socket.

    worker → zygote                                         zygote → worker
    ATTACH  slot, descriptors of its cgroup's task files    READY    the zygote is warm; value: pid in the jail
    RUN     slot, epoch, flags, limits, descriptors         STARTED  slot, epoch, when; credentials: whose
    KILL    slot, epoch                                     EXITED   slot, epoch, wait status, when
    (end of file: the zygote exits, and with it the jail)   CLEANED  slot, epoch, value: Doubt

The kernel translates the pid in those credentials (SCM_CREDENTIALS), which the two sides count differently.

The order for one execution is STARTED, EXITED, CLEANED, each exactly once. `epoch` numbers the executions of a slot,
so that a late frame can never be taken for one of a later call.
"""

from __future__ import annotations

import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple


class Kind(IntEnum):
    ATTACH = 1
    RUN = 2
    KILL = 3
    READY = 16
    STARTED = 17
    EXITED = 18
    CLEANED = 19


class Flag(IntFlag):
    NONE = 0
    STDIN = 1
    """A fourth descriptor is the program's standard input; without it the child opens /dev/null."""
    KEEP_FILES = 2
    """Kill what is left, but keep the slot's files: a FETCH run of the same call follows."""
    FETCH = 4
    """Run no code: write the files that the payload names to stdout, in the form of `fetch.py`."""
    LOOPBACK = 8
    """Allow internet sockets; the slot's network namespace has nothing but its own loopback."""


class Doubt(IntEnum):
    """Why a slot could not be verified clean; anything but NONE retires it."""

    NONE = 0
    PROCESSES = 1
    """Processes were left after everything was killed."""
    INIT = 2
    """The slot's init is gone, stuck, or answered nonsense."""
    SOCKETS = 3
    """Sockets of a call that is over were not collected."""


class Step(IntEnum):
    """Progress of a child's set-up (`child.py`); anything but DONE in EXITED is our failure, `errno` says more."""

    FORKED = 0
    CGROUP = 1
    NAMESPACES = 2
    STDIO = 3
    LIMITS = 4
    IDENTITY = 5
    PAYLOAD = 6
    INTERPRETER = 7
    SECCOMP = 8
    DONE = 9


class Frame(NamedTuple):
    """One frame; fields that a kind does not use are 0. Times are CLOCK_MONOTONIC nanoseconds."""

    kind: int
    slot: int = 0
    epoch: int = 0
    flags: int = 0
    value: int = 0
    """RUN: disk limit, MiB. EXITED: the raw wait status. CLEANED: a Doubt. READY: pid. STARTED: pid, once received."""
    cpu_s: int = 0
    """RUN: RLIMIT_CPU, the coarse guard behind the worker's own CPU clock."""
    step: int = 0
    errno: int = 0
    when_ns: int = 0
    size: int = 0
    """RUN: bytes of the payload."""
    run_delay_ns: int = 0
    """EXITED: how long the main thread was runnable but not running; 0 where the kernel does not tell."""


LAYOUT = struct.Struct("<BHIIiIBiQQQ")
"""The fields of a Frame in their order."""
SIZE = LAYOUT.size


_KINDS = frozenset(map(int, Kind))
_new = tuple.__new__


def pack(frame: Frame) -> bytes:
    return LAYOUT.pack(*frame)


def unpack(packet: bytes) -> Frame:
    """Raise ValueError if `packet` is not exactly one frame of a known kind."""
    if len(packet) != SIZE:
        raise ValueError(f"a frame is {SIZE} bytes, this packet has {len(packet)}")
    frame = _new(Frame, LAYOUT.unpack(packet))
    if frame[0] not in _KINDS:
        raise ValueError(f"there is no kind {frame.kind} of frame")
    return frame
