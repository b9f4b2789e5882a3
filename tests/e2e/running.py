"""One `sandbox-service serve` as a user starts it, and the search for whatever is left of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from sandbox_service.config import Settings
from tests.e2e.processes import children_of, descendants_of, jails_below, pids

_CGROUPS = Path("/sys/fs/cgroup")


class Seen(NamedTuple):
    """What belonged to a service at one moment."""

    processes: dict[int, str]
    """Start time of each pid: a pid alone may be used again."""
    workers: list[str]


class Running:
    """A service with run folder, Redis data and port of its own, and the images of this machine."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.run_dir = folder / "run"
        self.log = folder / "log"
        state = folder / "state"
        state.mkdir(parents=True, exist_ok=True)
        if not (state / "images").is_symlink():
            (state / "images").symlink_to(Settings().state_dir / "images")
        own = {"SANDBOX_STATE_DIR": str(state), "SANDBOX_RUN_DIR": str(self.run_dir), "SANDBOX_PROFILES": "bare"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sandbox_service", "serve", "--port", "0", "--slots", "2"],
                env={**os.environ, **own, "SANDBOX_DRAIN_S": "5", "SANDBOX_LEASE_S": "2", **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """Where it answers; empty until it says so."""
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"is ready at (http://\S+)", self.log.read_text())
        return found[1] if found else ""

    def part(self, name: str) -> int:
        """The pid of `worker`, `gateway` or the Redis server; 0 while there is none."""
        for pid in children_of(self.process.pid):
            words = _command(pid)
            if words[-1:] == [name] or (name == "redis" and "sandbox_service" not in words and "env" not in words):
                return pid
        return 0

    def jails(self) -> list[int]:
        return jails_below(self.process.pid)

    def zygotes(self) -> list[int]:
        return [zygote for jail in self.jails() for zygote in children_of(jail)]

    def look(self) -> Seen:
        found = [self.process.pid, *descendants_of(self.process.pid)]
        workers = [path.name for path in (self.run_dir / "workers").glob("*")]
        return Seen({pid: start for pid in found if (start := _start_time(pid))}, workers)

    def left_of(self, seen: Seen) -> list[str]:
        """Everything that is still there: processes (and so their namespaces), mounts, cgroups, files it made."""
        left = [f"process {pid} {_command(pid)}" for pid, at in seen.processes.items() if _start_time(pid) == at]
        for pid in pids():
            if str(self.folder) in _text(pid, "mountinfo"):
                left.append(f"a mount in process {pid} {_command(pid)}")
        left += [f"cgroup {path}" for path in cgroups_of(seen.workers)]
        # Not rglob, which raises where a folder goes away while it is looked at.
        below = [Path(top, name) for top, folders, files in os.walk(self.run_dir) for name in folders + files]
        left += [f"file {path}" for path in below if path != self.run_dir / "workers"]
        return left


def cgroups_of(workers: list[str]) -> list[str]:
    """The folders of these workers in all cgroup hierarchies."""
    return [str(Path(top, name)) for top, names, _ in os.walk(_CGROUPS) for name in names if name in workers]


def _command(pid: int) -> list[str]:
    return _text(pid, "cmdline").rstrip("\0").split("\0")


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When it started, for a process that lives; empty for one that is gone or dead and not yet reaped."""
    state, *rest = _text(pid, "stat").rpartition(")")[2].split() or ["Z"]
    return "" if state == "Z" else rest[18]
