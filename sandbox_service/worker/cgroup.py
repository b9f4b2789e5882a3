"""The folders of a worker's cgroups, in each hierarchy that the machine has.

Limits are set on leaves only (`leaf.py`), never on a group above them, so that one call's limit is never another's.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sandbox_service.errors import SetupError
from sandbox_service.worker.leaf import Leaf, LeafV1, LeafV2

ROOT = Path("/sys/fs/cgroup")
_GROUP = "sandbox-service"
_ASIDE = "sandbox-service-host"
_V1_CONTROLLERS = ("memory", "pids", "cpuacct", "cpu")
_V2_CONTROLLERS = ("memory", "pids", "cpu")


class Groups:
    """The folder of one worker's leaves in each hierarchy, inside the group that the worker itself is in."""

    def __init__(self, worker: str, slots: int) -> None:
        self.version = 2 if (ROOT / "cgroup.controllers").exists() else 1
        self._folders = {name: parent / _GROUP / worker for name, parent in _parents(self.version).items()}
        try:
            for folder in self._folders.values():
                _make(folder)
            if self.version == 2:
                _delegate(self._folders["unified"])
            self._weigh(slots)
        except OSError as error:
            raise SetupError(f"cannot make cgroups for calls: {error}; run `sandbox-service doctor`") from error

    def _weigh(self, slots: int) -> None:
        """Give this worker the weight of so many processes: a group counts as one, however many calls are in it."""
        folder = self._folders["unified" if self.version == 2 else "cpu"]
        file, weight, highest = ("cpu.weight", 100, 10_000) if self.version == 2 else ("cpu.shares", 1024, 262_144)
        (folder / file).write_text(str(min(weight * slots, highest)))
        of_all_workers = 0
        for each in folder.parent.glob(f"*/{file}"):
            with suppress(FileNotFoundError):  # that worker has just left
                of_all_workers += int(each.read_text())
        (folder.parent / file).write_text(str(min(of_all_workers, highest)))

    def leaf(self, name: str) -> Leaf:
        folders = {hierarchy: folder / name for hierarchy, folder in self._folders.items()}
        for folder in folders.values():
            _remove_if_empty(folder)  # of a jail that was not removed in time, or whose start failed
        return LeafV2(folders["unified"]) if self.version == 2 else LeafV1(folders)

    def remove(self) -> None:
        for folder in self._folders.values():
            _remove_tree(folder)
            _remove_if_empty(folder.parent)


def remove_groups(worker: str) -> bool:
    """Remove the groups of a worker that is no more; False if one of them still holds a process."""
    version = 2 if (ROOT / "cgroup.controllers").exists() else 1
    folders = [parent / _GROUP / worker for parent in _parents(version).values()]
    for folder in folders:
        _remove_tree(folder)
        _remove_if_empty(folder.parent)
    return not any(folder.exists() for folder in folders)


def _parents(version: int) -> dict[str, Path]:
    """The folder of this process's own group in each hierarchy that is used."""
    own: dict[str, str] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    if version == 2:
        return {"unified": _mounted(ROOT, own[""].removesuffix(f"/{_ASIDE}"))}
    for controller in _V1_CONTROLLERS:
        if controller not in own or not (ROOT / controller).is_dir():
            raise SetupError(f"this machine has no cgroup controller {controller!r}; run `sandbox-service doctor`")
    return {controller: _mounted(ROOT / controller, own[controller]) for controller in _V1_CONTROLLERS}


def _mounted(root: Path, path: str) -> Path:
    """In a container /proc gives the host's path, and what is mounted at `root` is the container's group already."""
    return root / path if (root / path).is_dir() else root


def _delegate(folder: Path) -> None:
    """Let the leaves below `folder` have controllers (v2).

    A group other than the root that has controllers for those below it may hold no process itself, so the processes
    of our own group move aside.
    """
    group = folder.parent
    own = group.parent
    wanted = " ".join(f"+{controller}" for controller in _V2_CONTROLLERS)
    if (own / "cgroup.type").exists():
        aside = own / _ASIDE
        aside.mkdir(exist_ok=True)
        for pid in (own / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (aside / "cgroup.procs").write_text(pid)
    for each in (own, group, folder):
        (each / "cgroup.subtree_control").write_text(wanted)


def _remove_tree(folder: Path) -> None:
    """Remove a group and those below it; what is still busy stays for the next start."""
    for below in [path for path in folder.glob("*") if path.is_dir()]:
        _remove_tree(below)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _make(folder: Path) -> None:
    """Make a worker's folder; the one above may be removed at this moment by another worker that leaves."""
    for _ in range(10):
        with suppress(FileNotFoundError):
            folder.parent.mkdir(exist_ok=True)
            folder.mkdir()
            return
    folder.mkdir(parents=True)
