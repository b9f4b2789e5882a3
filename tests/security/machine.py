"""What can be seen of a running service from outside its jails: processes, mounts, descriptors, cgroups."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sandbox_service.worker import cgroup
from tests.e2e.processes import descendants_of, pids

PROC = Path("/proc")


def command_line(pid: int) -> list[str]:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def environment(pid: int) -> dict[str, str]:
    pairs = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def part(name: str, above: int, url: str) -> int:
    """The process `python -m sandbox_service NAME` below `above`, of the service at `url`."""
    named = [pid for pid in descendants_of(above) if command_line(pid)[-4:-1] == ["-m", "sandbox_service", name]]
    found = [pid for pid in named if environment(pid).get("SANDBOX_PORT") == url.rpartition(":")[2]]
    assert len(found) == 1, f"{len(found)} processes are the {name}"
    return found[0]


def zygotes_and_inits(worker: int) -> dict[int, list[int]]:
    """Each zygote below the worker with the inits of its slots: the processes that live longer than a call."""
    below = descendants_of(worker)
    ours = {pid: parent for pid in below if _is_ours(pid) for parent in [_parent(pid)]}
    zygotes = [pid for pid, parent in ours.items() if parent not in ours]
    return {zygote: [pid for pid, parent in ours.items() if parent == zygote and _is_root(pid)] for zygote in zygotes}


def _is_ours(pid: int) -> bool:
    return "sandbox_service.inside.zygote" in command_line(pid) and "nsjail" not in command_line(pid)[0]


def _status(pid: int, name: str) -> list[str]:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith(f"{name}:")), [])


def _parent(pid: int) -> int:
    return int((_status(pid, "PPid") or ["0"])[0])


def _is_root(pid: int) -> bool:
    """Whether it has the jail's own user id, which the zygote and the inits have and a call has not."""
    return _status(pid, "Uid")[:1] == [str((PROC / str(pid)).stat().st_uid)] and _capable(pid)


def _capable(pid: int) -> bool:
    return _status(pid, "CapEff") not in ([], ["0000000000000000"])


@dataclass(frozen=True)
class Footprint:
    """What a worker and its jails hold while no call runs. Two of them are equal if a call left nothing."""

    zygotes: tuple[int, ...]
    inits: int
    processes: int
    mounts: tuple[int, ...]
    descriptors: tuple[int, ...]
    """Of the zygotes and inits."""
    files_in_slots: tuple[tuple[int, int], ...]
    """Blocks and inodes that are in use in each slot's tmpfs."""


def footprint(worker: int) -> Footprint:
    jails = zygotes_and_inits(worker)
    inits = sorted(pid for below in jails.values() for pid in below)
    lasting = [*sorted(jails), *inits]
    return Footprint(
        zygotes=tuple(sorted(jails)),
        inits=len(inits),
        processes=len(descendants_of(worker)),
        mounts=tuple(sorted(len((PROC / str(pid) / "mountinfo").read_text().splitlines()) for pid in lasting)),
        descriptors=tuple(sorted(len(list((PROC / str(pid) / "fd").iterdir())) for pid in lasting)),
        files_in_slots=tuple(sorted(_used(PROC / str(pid) / "root" / "tmp") for pid in inits)),
    )


def _used(folder: Path) -> tuple[int, int]:
    usage = os.statvfs(folder)
    return usage.f_blocks - usage.f_bfree, usage.f_files - usage.f_ffree


class Leaves:
    """The cgroup leaves of one worker's slots."""

    def __init__(self, worker: str) -> None:
        version = 2 if (cgroup.ROOT / "cgroup.controllers").exists() else 1
        parents = cgroup._parents(version)
        controller = "unified" if version == 2 else "pids"
        self._folder = parents[controller] / "sandbox-service" / worker

    def processes(self) -> int:
        return sum(int((leaf / "pids.current").read_text()) for leaf in self._folder.iterdir() if leaf.is_dir())


def is_alive(pid: int) -> bool:
    return pid in pids()
