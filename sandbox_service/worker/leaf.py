"""One cgroup leaf per slot: it bounds what a call uses, and its counters are the evidence of what it used.

Two hierarchies are supported: v1 (a leaf in each of memory, pids, cpuacct and cpu) and v2 (one leaf). A child enters by
writing "0" to descriptors that the zygote was given once: on v1 to `tasks`, since `cgroup.procs` waits for an RCU
grace period (6 to 15 ms) whenever calls are sparse.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sandbox_service.worker.schedstat import run_delay_s

_MIB = 1 << 20
_UNNOTICED = 8 * _MIB
"""A group whose memory has grown by less since it was last looked at is not looked at again: it takes 0.1 ms."""
_SOCKET_BUFFERS = 32 * _MIB
_MUCH = 96 * _MIB
"""A group is not left with more than this, even of what can be dropped: a lower limit would have to wait for it."""


class Before(NamedTuple):
    """What a leaf has counted, and what it holds, before a call."""

    cpu_s: float
    oom_kills: int
    memory: int


class After(NamedTuple):
    """What a leaf has counted after a call."""

    cpu_s: float
    oom_kills: int
    memory_peak: int | None
    """Bytes since the last `begin`; None where the kernel cannot reset its peak."""


class Leaf(ABC):
    """The group of one slot. Its files are opened at once and stay open: a read is a system call, not a path walk, and
    needs no descriptor at a moment when there may be none."""

    def __init__(self) -> None:
        self._files: dict[Path, int] = {}
        self._limits: dict[Path, int] = {}
        self._cached = 0

    @property
    @abstractmethod
    def task_files(self) -> list[Path]:
        """Files to which a process writes "0" to enter the leaf."""

    @abstractmethod
    def _begin(self, memory_mb: int, processes: int) -> None:
        """Set the limits of the next call, and restart the peak."""

    @abstractmethod
    def cpu_s(self) -> float: ...

    @abstractmethod
    def _oom_kills(self) -> int: ...

    @abstractmethod
    def _memory_peak(self) -> int | None: ...

    @abstractmethod
    def processes(self) -> int: ...

    @property
    @abstractmethod
    def _threads(self) -> Path:
        """The file that lists the threads in the leaf."""

    def begin(self, memory_mb: int, processes: int) -> Before:
        """Set the limits of the next call, and return what to compare with later."""
        self._begin(memory_mb, processes)
        return Before(self.cpu_s(), self._oom_kills(), self._charged())

    def counters(self) -> After:
        return After(self.cpu_s(), self._oom_kills(), self._memory_peak())

    def descheduled_s(self) -> float:
        """The longest time for which one of its living threads was ready to run and had no CPU (schedstat, proc(5)).

        Of what the list's first 4 KiB name: some hundred threads. 0 where the kernel does not count it.
        """
        whole_lines = self._read(self._threads).rpartition("\n")[0]
        return max((run_delay_s(int(thread)) for thread in whole_lines.split()), default=0.0)

    @abstractmethod
    def _charged(self) -> int:
        """Bytes that are charged to the group."""

    @abstractmethod
    def _held(self) -> int:
        """Bytes of programs' and of kernel memory among them: what is no cache of files."""

    @abstractmethod
    def reclaim(self) -> None:
        """Have the kernel drop what it can. Takes as long as it takes: not for the event loop."""

    def is_unused(self) -> bool:
        """Whether no process is in it, and little memory but what the kernel can drop whenever it wants.

        SECURITY: shared memory, queues and files in flight between sockets are freed some time after the last process
        is gone, directory entries only under pressure; until then they count against the next call, and setting it a
        lower limit would wait for them (tests/security: `test_memory_left_behind_is_nobody_elses`).
        """
        if self.processes():
            return False
        usage = self._charged()
        if usage > self._cached + _UNNOTICED and (usage > _MUCH or self._held() > _UNNOTICED):
            return False
        self._cached = usage
        return True

    @abstractmethod
    def remove(self) -> None:
        """Remove the leaf; it has to be empty."""

    def open_task_files(self) -> list[int]:
        return [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in self.task_files]

    def _read(self, path: Path) -> str:
        return os.pread(self._fd(path), 4096, 0).decode()

    def _number(self, path: Path) -> int:
        return int(self._read(path))

    def _write(self, path: Path, value: int) -> None:
        os.pwrite(self._fd(path), str(value).encode(), 0)

    def _limit(self, path: Path, value: int) -> None:
        """Write a limit if it is not the one in force."""
        if self._limits.get(path) != value:
            self._write(path, value)
            self._limits[path] = value

    def _open(self, *paths: Path) -> None:
        try:
            for path in paths:
                self._fd(path)
        except OSError:
            self._close()
            raise

    def _fd(self, path: Path) -> int:
        fd = self._files.get(path)
        if fd is None:
            writable = os.access(path, os.W_OK) and path.stat().st_mode & 0o200
            fd = self._files[path] = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        return fd

    def _close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()


class LeafV1(Leaf):
    def __init__(self, folders: dict[str, Path]) -> None:
        super().__init__()
        for folder in folders.values():
            folder.mkdir()
        self._folders = folders
        memory = folders["memory"]
        self._memory_limit = memory / "memory.limit_in_bytes"
        self._swap_limit = memory / "memory.memsw.limit_in_bytes"
        self._has_swap_limit = self._swap_limit.exists()
        self._usage = memory / "memory.usage_in_bytes"
        self._stat = memory / "memory.stat"
        self._kernel_usage = memory / "memory.kmem.usage_in_bytes"
        # Buffers of sockets have a counter of their own here, which counts only once it has a limit.
        if (memory / "memory.kmem.tcp.limit_in_bytes").exists():
            (memory / "memory.kmem.tcp.limit_in_bytes").write_text(str(_SOCKET_BUFFERS))
        self._peak = memory / "memory.max_usage_in_bytes"
        self._oom = memory / "memory.oom_control"
        self._pids_limit = folders["pids"] / "pids.max"
        self._pids = folders["pids"] / "pids.current"
        self._cpu = folders["cpuacct"] / "cpuacct.usage"
        limits = [self._memory_limit, self._pids_limit, *[self._swap_limit] * self._has_swap_limit]
        memory_files = [self._usage, self._stat, self._kernel_usage, self._peak, self._oom]
        self._open(*limits, *memory_files, self._pids, self._threads, self._cpu)

    @property
    def task_files(self) -> list[Path]:
        return [folder / "tasks" for folder in self._folders.values()]

    def _begin(self, memory_mb: int, processes: int) -> None:
        self._set_memory(memory_mb * _MIB)
        self._limit(self._pids_limit, processes)
        self._write(self._peak, 0)

    def _set_memory(self, limit: int) -> None:
        """Lower `limit` before `memsw.limit`, raise it after: the kernel wants limit <= memsw.limit at all times."""
        order = [self._memory_limit, self._swap_limit] if self._has_swap_limit else [self._memory_limit]
        if limit > self._limits.get(self._memory_limit, 1 << 62):
            order.reverse()
        for path in order:
            self._limit(path, limit)

    def _oom_kills(self) -> int:
        return int(self._read(self._oom).rpartition("oom_kill ")[2])

    def _memory_peak(self) -> int:
        return self._number(self._peak)

    def processes(self) -> int:
        return self._number(self._pids)

    @property
    def _threads(self) -> Path:
        return self._folders["pids"] / "tasks"

    def _charged(self) -> int:
        return self._number(self._usage)

    def _held(self) -> int:
        stat = self._read(self._stat)
        return _field(stat, "rss") + _field(stat, "shmem") + self._number(self._kernel_usage)

    def reclaim(self) -> None:
        with suppress(OSError):
            (self._folders["memory"] / "memory.force_empty").write_text("0")

    def cpu_s(self) -> float:
        return self._number(self._cpu) / 1e9

    def remove(self) -> None:
        self._close()
        for folder in self._folders.values():
            folder.rmdir()


class LeafV2(Leaf):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir()
        self._folder = folder
        # One out-of-memory kill ends the whole call on v1 only if it hits the main process; keep v2 the same.
        self._write(folder / "memory.oom.group", 0)
        if (folder / "memory.swap.max").exists():
            self._write(folder / "memory.swap.max", 0)
        self._peak = folder / "memory.peak"
        self._peak_can_be_reset = self._try_reset()
        names = ("memory.max", "memory.current", "memory.events", "memory.stat", "pids.max", "pids.current", "cpu.stat")
        self._open(*(folder / name for name in names), self._threads)

    @property
    def task_files(self) -> list[Path]:
        return [self._folder / "cgroup.procs"]

    def _try_reset(self) -> bool:
        """Restart the peak; kernels before 6.12 refuse."""
        try:
            self._write(self._peak, 0)
        except OSError:
            return False
        return True

    def _begin(self, memory_mb: int, processes: int) -> None:
        self._limit(self._folder / "memory.max", memory_mb * _MIB)
        self._limit(self._folder / "pids.max", processes)
        if self._peak_can_be_reset:
            self._write(self._peak, 0)

    def _oom_kills(self) -> int:
        return _field(self._read(self._folder / "memory.events"), "oom_kill")

    def _memory_peak(self) -> int | None:
        return self._number(self._peak) if self._peak_can_be_reset else None

    def processes(self) -> int:
        return self._number(self._folder / "pids.current")

    @property
    def _threads(self) -> Path:
        return self._folder / "cgroup.threads"

    def _charged(self) -> int:
        return self._number(self._folder / "memory.current")

    def _held(self) -> int:
        stat = self._read(self._folder / "memory.stat")
        return sum(_field(stat, kind) for kind in ("anon", "shmem", "kernel"))

    def reclaim(self) -> None:
        with suppress(OSError):  # it is an error that less could be dropped than was asked for
            (self._folder / "memory.reclaim").write_text(str(self._charged()))

    def cpu_s(self) -> float:
        return _field(self._read(self._folder / "cpu.stat"), "usage_usec") / 1e6

    def remove(self) -> None:
        self._close()
        self._folder.rmdir()


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise ValueError(f"no {name} in {text!r}")
