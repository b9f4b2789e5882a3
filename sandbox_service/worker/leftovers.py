"""Removes what workers that were killed have left behind: their code folders and their cgroups.

A killed worker's jails end by themselves (their zygotes see the end of the socket), so only empty things are left.
A worker is dead if nobody holds the lock in its folder. The folder goes last: it tells the groups' name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from pathlib import Path

from sandbox_service.errors import SetupError
from sandbox_service.worker import cgroup

_LOCK = "lock"


def claim_folder(folder: Path) -> int:
    """Make the worker's folder and lock it for as long as this process lives; return the descriptor.

    Raise SetupError if the users of jails, who are nobody outside, could not reach what is in it.
    """
    folder.mkdir(parents=True)
    for above in folder.absolute().parents:
        if not above.stat().st_mode & stat.S_IXOTH:
            raise SetupError(f"jails cannot pass {above}: `chmod o+x` it, or set SANDBOX_RUN_DIR to another folder")
    fd = os.open(folder / "new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / "new").rename(folder / _LOCK)  # locked from the moment it has its name
    return fd


def remove_leftovers(workers: Path) -> list[str]:
    """Remove the folders below `workers` whose process is gone, with their cgroups; return their names.

    One whose groups are still busy, because its jails are just ending, stays for the next time.
    """
    removed = []
    for folder in workers.glob("*"):
        if _is_dead(folder) and cgroup.remove_groups(folder.name):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder.name)
    return removed


def _is_dead(folder: Path) -> bool:
    try:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # just being made
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True
