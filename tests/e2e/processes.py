"""What the kernel knows about processes, read from /proc: who is whose child, and what is left of a service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.conftest import WaitUntil


def pids() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def parent_of(pid: int) -> int:
    """The parent of a process; 0 if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    """Asked of the kernel, not found by a look at every process: strikes are made on a loop that has more to do."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, task.read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    """All processes below `pid`, nearest first."""
    found, pending = [], [pid]
    while pending:
        children = children_of(pending.pop(0))
        found += children
        pending += children
    return found


def name_of(pid: int) -> str:
    """The name a process shows; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except OSError:
        return ""


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used, without its children's; OSError if it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def jails_below(pid: int) -> list[int]:
    """The nsjail processes that a service started by `pid` runs."""
    return [each for each in descendants_of(pid) if name_of(each) == "nsjail"]


async def kill_the_zygote_above(mark: str, wait_until: WaitUntil) -> None:
    """Find the process of this name in one of our jails, kill the zygote that forked it, and see both gone."""
    found: list[int] = []

    def find() -> bool:
        for jail in jails_below(os.getpid()):
            for zygote in children_of(jail):
                found[:] = [zygote, *(pid for pid in descendants_of(zygote) if name_of(pid) == mark)]
                if len(found) > 1:
                    return True
        return False

    await wait_until(find, timeout_s=20)
    os.kill(found[0], signal.SIGKILL)
    await wait_until(lambda: not any(map(parent_of, found)), timeout_s=20)
