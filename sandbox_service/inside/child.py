"""The way of a forked child from the zygote's rights to none, and into the program.

The order matters and is the one place where isolation of a call is set up: cgroup first (all that follows is
charged to the call), then namespaces, descriptors, limits, identity, and seccomp as the very last step. The first
failure ends the child there, and a page shared with the zygote tells where: nothing runs half isolated.

What each child of a slot does alike is a list of C calls with their arguments, made once in the zygote and rehearsed
there with calls that do nothing: to walk along it touches far fewer pages than `os` and `resource` would, and pages
are what a child costs.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import socket
import struct
from collections.abc import Iterable
from marshal import dumps, loads
from typing import NoReturn

from sandbox_service.inside import fetch, init, linux
from sandbox_service.inside.frames import Flag, Frame, Kind, Step
from sandbox_service.inside.linux import Call, libc
from sandbox_service.inside.runner import run
from sandbox_service.inside.seccomp import Filter
from sandbox_service.inside.slot import Slot

# As plain numbers: to look up a member of an enumeration runs a function, whose pages a fork has to copy.
_STDIN, _FETCH, _LOOPBACK = Flag.STDIN.value, Flag.FETCH.value, Flag.LOOPBACK.value
_CGROUP, _NAMESPACES, _STDIO, _LIMITS, _IDENTITY, _PAYLOAD, _INTERPRETER, _SECCOMP, _DONE = map(int, list(Step)[1:])
_SLOT_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWNET
_ENTRY = struct.Struct("<II")
_limits = struct.Struct("=QQ").pack
_exit = os._exit  # a program may replace it in `os`
_REHEARSALS = 20


class Progress:
    """A shared page with an entry per slot: the step its child has reached, and the errno it ended with.

    SECURITY: a child unmaps the page before its program starts, so a program cannot claim that its failure was a
    failure of the set-up (tests/security: `test_a_program_cannot_pose_as_an_infrastructure_fault`).
    """

    def __init__(self, slots: int) -> None:
        self._page = mmap.mmap(-1, _ENTRY.size * slots)

    def mark(self, slot: int, step: int, errno: int = 0) -> None:
        _ENTRY.pack_into(self._page, slot * _ENTRY.size, step, errno)

    def read(self, slot: int) -> tuple[int, int]:
        step, errno = _ENTRY.unpack_from(self._page, slot * _ENTRY.size)
        return step, errno

    def unmap(self) -> None:
        self._page.close()


class Entrance:
    """The way into one slot, with all that its children do alike; a slot that is replaced gets a new one."""

    def __init__(self, slot: Slot, progress: Progress, seccomp: Filter, loopback_seccomp: Filter) -> None:
        self.step = 0
        self._index = slot.index
        self._progress = progress
        self._seccomp, self._loopback_seccomp = seccomp, loopback_seccomp
        self._cgroup: Iterable[Call] = [
            *((libc.write, (fd, b"0", 1)) for fd in slot.cgroup_fds),
            (libc.setns, (slot.cgroup_namespace, linux.CLONE_NEWCGROUP)),
        ]
        self._namespaces: Iterable[Call] = [
            (libc.setns, (slot.init_fd, _SLOT_NAMESPACES)),
            # Queues and shared memory cannot be cleaned and used again.
            (libc.unshare, (linux.CLONE_NEWIPC,)),
        ]
        self._no_stdin: Iterable[Call] = [
            (libc.close, (0,)),
            (libc.open, (b"/dev/null", os.O_RDONLY)),  # 0, the first that is free
        ]
        self._dup, self._limit = libc.dup2, libc.prlimit
        self._identity: Iterable[Call] = [
            (libc.close_range, (3, 0xFFFFFFFF, 0)),
            (libc.setsid, ()),
            (libc.open, (b"/proc/self/oom_score_adj", os.O_WRONLY)),  # 3, the first that is free
            (libc.write, (3, b"1000", 4)),
            (libc.close, (3,)),
            (libc.setgroups, (0, None)),
            (libc.setresgid, (slot.uid, slot.uid, slot.uid)),
            (libc.setresuid, (slot.uid, slot.uid, slot.uid)),
        ]
        self._work_folder: Iterable[Call] = [(libc.chdir, (init.WORK_FOLDER.encode(),))]
        # Once it is dumpable it is an ordinary process: /dev/stdout and /proc/self/fd work.
        self._ordinary: Iterable[Call] = [(libc.prctl, (linux.PR_SET_DUMPABLE, 1, 0, 0, 0))]

    def enter(self, frame: Frame, descriptors: list[int]) -> bytes:
        """Give up all rights but those of the program, less what `seal` does; return the payload."""
        self.step = _CGROUP
        linux.do(self._cgroup)
        self.step = _NAMESPACES
        linux.do(self._namespaces)
        if frame.flags & _LOOPBACK:
            _make_loopback()
            self._seccomp = self._loopback_seccomp
        self.step = _STDIO
        payload = os.pread(descriptors[0], frame.size, 0)
        linux.do(((self._dup, (descriptors[3], 0)),) if frame.flags & _STDIN else self._no_stdin)
        linux.do(((self._dup, (descriptors[1], 1)), (self._dup, (descriptors[2], 2))))
        self.step = _LIMITS
        # Coarse, and per process: the worker's clock counts all of them together.
        cpu_s, file_size = frame.cpu_s + 1, frame.value << 20
        linux.do(((self._limit, (0, resource.RLIMIT_CPU, _limits(cpu_s, cpu_s), None)),))
        linux.do(((self._limit, (0, resource.RLIMIT_FSIZE, _limits(file_size, file_size), None)),))
        self.step = _IDENTITY
        linux.do(self._identity)
        try:
            # With no more rights than the program had: it may lead elsewhere by now, when files are fetched.
            linux.do(self._work_folder)
        except OSError:
            if not frame.flags & _FETCH:
                raise
            os.chdir(init.CODE_FOLDER)  # the program removed its folder, so it left no files; this one is empty
        linux.do(self._ordinary)
        self.step = _PAYLOAD
        return payload

    def seal(self) -> None:
        """Take the last right; from here on what fails is the program's failure."""
        self.step = _SECCOMP
        self._seccomp.install()
        self._progress.mark(self._index, _DONE)
        self._progress.unmap()

    def fail(self, error: BaseException) -> None:
        self._progress.mark(self._index, self.step, getattr(error, "errno", 0) or 0)

    def do_nothing(self) -> None:
        """Make every call one that does nothing and returns 0, for rehearsals."""
        nothing: Call = (libc.sched_yield, ())
        self._cgroup = self._namespaces = self._no_stdin = self._identity = self._work_folder = [nothing]
        self._ordinary = [nothing]
        self._dup = self._limit = libc.sched_yield
        self._seccomp = self._seccomp.for_rehearsal(libc.sched_yield)


def become(entrance: Entrance, frame: Frame, descriptors: list[int]) -> NoReturn:
    """Run the execution that `frame` describes in this freshly forked process. Never returns."""
    try:
        payload = entrance.enter(frame, descriptors)
        job, paths = loads(payload)  # written by the worker; the program has not started
        entrance.step = _INTERPRETER
        if frame.flags & _FETCH:
            fetch.fetch(paths, entrance.seal)
        run(job, entrance.seal)
    except BaseException as error:
        entrance.fail(error)
    finally:
        _exit(1)


def rehearse(entrance: Entrance) -> None:
    """Go the way often enough for the interpreter to have adapted its code, so that no child has to."""
    payload = dumps({})
    descriptor = os.memfd_create("rehearsal")
    os.write(descriptor, payload)
    entrance.do_nothing()
    frame = Frame(Kind.RUN, size=len(payload))
    for _ in range(_REHEARSALS):
        loads(entrance.enter(frame, [descriptor, 1, 2]))
        entrance.seal()
        entrance._progress = Progress(1)
    os.close(descriptor)


def _make_loopback() -> None:
    """Make a network namespace of this call's own: ports that closed connections hold cannot be cleaned.

    Without internet sockets, which only the filter for `loopback` allows, the slot's own will do.
    """
    linux.unshare(linux.CLONE_NEWNET)
    siocsifflags, iff_up = 0x8914, 0x1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, siocsifflags, struct.pack("16sh22x", b"lo", iff_up))
