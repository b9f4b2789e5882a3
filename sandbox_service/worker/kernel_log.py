"""Which system call ended a program: the kernel's log says it (audit record 1326), and nothing else does.

A wait status tells SIGSYS and no more. The record is found by the process and the user that it names, both as this
machine counts them; no program can write into that log, nor anything into a record but its own name, which the kernel
puts into hexadecimal if it is not plain. A name is given where there is such a record and never guessed: there is none
in a container (no /dev/kmsg, other ids), beside an audit daemon, which takes the records itself, or when programs are
ended so fast that the kernel drops some (10 in 5 s are kept).
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import time
from typing import NamedTuple

from sandbox_service.inside import seccomp

_RECORD = re.compile(
    rb"[^;]*;audit: type=1326 audit\((\d+)\.\d+:\d+\): auid=\d+ uid=(\d+) gid=\d+ ses=\d+(?: subj=.*?)? pid=(\d+) "
    rb"comm=\S+ exe=\S+ sig=31 arch=([0-9a-f]+) syscall=(\d+) "
)
_LARGEST = 8192
_KEPT = 100
_WAIT_S, _PAUSE_S = 0.1, 0.005
"""A thread of the kernel writes the record, some time after the process has ended."""
_CLOCKS_S = 2
"""Records have whole seconds here, of the machine's clock."""


class _Ended(NamedTuple):
    at: int
    uid: int
    pid: int
    machine: int
    number: int


class KernelLog:
    """Reads what is new in the log, when it is asked."""

    def __init__(self) -> None:
        self._fd = -1
        self._ended: list[_Ended] = []
        try:
            self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def call_that_ended(self, pid: int, uid: int, since: float) -> str | None:
        """Return the system call by its name, or None if the log does not tell. `since`: seconds since the epoch."""
        until = time.monotonic() + _WAIT_S
        while self._fd >= 0:
            self._read()
            for ended in self._ended:
                if (ended.pid, ended.uid) == (pid, uid) and ended.at >= since - _CLOCKS_S:
                    return _name(ended.machine, ended.number)
            if time.monotonic() > until:
                break
            await asyncio.sleep(_PAUSE_S)
        return None

    def _read(self) -> None:
        while True:
            try:
                record = os.read(self._fd, _LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                # Overwritten ones, or one that is too long: the next read goes on behind them.
                if error.errno in (errno.EPIPE, errno.EINVAL):
                    continue
                record = b""
            if not record:  # not the kernel's log: some containers have /dev/null in its place
                self.close()
                return
            if (found := parse(record)) is not None:
                self._ended = [*self._ended[1 - _KEPT :], found]


def parse(record: bytes) -> _Ended | None:
    """Read one record of /dev/kmsg. SECURITY: anchored at its start, which no program writes (test_kernel_log.py)."""
    found = _RECORD.match(record)
    if found is None:
        return None
    at, uid, pid, machine, number = found.groups()
    return _Ended(int(at), int(uid), int(pid), int(machine, 16), int(number))


def _name(machine: int, number: int) -> str:
    here = os.uname().machine
    if machine != seccomp.AUDIT_ARCH.get(here):
        return f"number {number} of another architecture"
    if number & seccomp.X32_BIT:
        return f"number {number - seccomp.X32_BIT} of x32"
    return seccomp.names(here).get(number, f"number {number}")
