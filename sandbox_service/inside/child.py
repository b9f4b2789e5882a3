"""The way of a forked child from the zygote's rights to none, and into the program.

The order matters and is the one place where isolation of a call is set up: cgroup first (all that follows is
charged to the call), then namespaces, descriptors, limits, identity, and seccomp as the very last step. Each step is
marked in a page shared with the zygote, and the first failure ends the child there: nothing runs half isolated.
"""

from __future__ import annotations

import fcntl
import marshal
import math
import mmap
import os
import resource
import socket
import struct
from typing import NoReturn

from sandbox_service.inside import fetch, init, linux, runner
from sandbox_service.inside.frames import Flag, Frame, Step
from sandbox_service.inside.seccomp import Filter
from sandbox_service.inside.slot import Slot

_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWNET
_ENTRY = struct.Struct("<II")
_OOM_SCORE = b"1000"
_exit = os._exit  # a program may replace it in `os`


class Progress:
    """A shared page with an entry per slot: the step its child has reached, and the errno it ended with.

    SECURITY: a child unmaps the page before its program starts, so a program cannot claim that its failure was a
    failure of the set-up (tests/security: `test_a_program_cannot_pose_as_an_infrastructure_fault`).
    """

    def __init__(self, slots: int) -> None:
        self._page = mmap.mmap(-1, _ENTRY.size * slots)

    def mark(self, slot: int, step: Step, errno: int = 0) -> None:
        _ENTRY.pack_into(self._page, slot * _ENTRY.size, step, errno)

    def read(self, slot: int) -> tuple[int, int]:
        step, errno = _ENTRY.unpack_from(self._page, slot * _ENTRY.size)
        return step, errno

    def unmap(self) -> None:
        self._page.close()


def become(slot: Slot, frame: Frame, descriptors: list[int], progress: Progress, seccomp: Filter) -> NoReturn:
    """Run the execution that `frame` describes in this freshly forked process. Never returns."""
    step = Step.FORKED

    def reach(next_step: Step) -> None:
        nonlocal step
        step = next_step

    def seal() -> None:
        reach(Step.SECCOMP)
        seccomp.install()
        progress.mark(slot.index, Step.DONE)
        progress.unmap()

    try:
        reach(Step.CGROUP)
        slot.join_cgroup()
        reach(Step.NAMESPACES)
        linux.setns(slot.init_fd, _NAMESPACES)
        _make_namespaces(loopback=bool(frame.flags & Flag.LOOPBACK))
        reach(Step.STDIO)
        payload = _take_descriptors(frame, descriptors)
        reach(Step.LIMITS)
        _set_limits(frame)
        reach(Step.IDENTITY)
        os.setgroups([])
        os.setresgid(slot.uid, slot.uid, slot.uid)
        os.setresuid(slot.uid, slot.uid, slot.uid)
        _enter_work_folder(fetching=bool(frame.flags & Flag.FETCH))
        linux.set_dumpable(True)  # from here on it is an ordinary process: /dev/stdout and /proc/self/fd work
        reach(Step.PAYLOAD)
        job = marshal.loads(payload)  # written by the worker; the program has not started
        reach(Step.INTERPRETER)
        if frame.flags & Flag.FETCH:
            fetch.fetch(job["fetch"], seal)
        runner.run(job, seal)
    except BaseException as error:
        progress.mark(slot.index, step, getattr(error, "errno", 0) or 0)
    finally:
        _exit(1)


def _make_namespaces(*, loopback: bool) -> None:
    """Make what cannot be cleaned and used again: queues and shared memory, and ports that closed connections hold.

    Without internet sockets, which only the filter for `loopback` allows, the slot's own network namespace will do.
    """
    linux.unshare(linux.CLONE_NEWIPC | (linux.CLONE_NEWNET if loopback else 0))
    if loopback:
        siocsifflags, iff_up = 0x8914, 0x1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, siocsifflags, struct.pack("16sh22x", b"lo", iff_up))


def _enter_work_folder(*, fetching: bool) -> None:
    """Go to the call's folder, with no more rights than the program had: it may lead elsewhere by now.

    A program may have removed it, too: then it left no files, which is no fault of ours.
    """
    try:
        os.chdir(init.WORK_FOLDER)
    except OSError:
        if not fetching:
            raise
        os.chdir(init.CODE_FOLDER)  # empty in a slot


def _take_descriptors(frame: Frame, descriptors: list[int]) -> bytes:
    """Make the passed descriptors 0, 1 and 2, read the payload, and close everything else."""
    payload_fd, stdout_fd, stderr_fd, *stdin = descriptors
    payload = os.read(payload_fd, os.fstat(payload_fd).st_size)
    os.dup2(stdin[0] if frame.flags & Flag.STDIN else os.open("/dev/null", os.O_RDONLY), 0)
    os.dup2(stdout_fd, 1)
    os.dup2(stderr_fd, 2)
    linux.close_from(3)
    return payload


def _set_limits(frame: Frame) -> None:
    os.setsid()
    os.umask(0o022)
    cpu_s = math.ceil(frame.cpu_s) + 1  # coarse, and per process: the worker's clock counts all of them together
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    file_size = frame.value << 20
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
    os.write(score, _OOM_SCORE)
    os.close(score)
