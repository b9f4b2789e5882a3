"""Attacks every jail of a pool before it may serve, and whenever asked: a layer that is missing shows here.

The probes run as any call does and report what they find; what they report is compared here with what must be so.
What they cannot see is in tests/security/test_sabotage.py, with the reason for each.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox_service.errors import SetupError
from sandbox_service.inside import init
from sandbox_service.worker.evidence import Evidence, Kill
from sandbox_service.worker.pool import Pool, Program
from sandbox_service.worker.profiles import Profile
from sandbox_service.worker.slots import Bounds, JailLost

_TIME_S = 20.0
_CPU_S = math.ceil(_TIME_S) + 1
"""Of the coarse limit that the kernel keeps for each process (inside/child.py)."""
_DISK_MB = 16
_OUTPUT_BYTES = 65536

_LOOK = """
import ctypes, errno, os, random, resource, socket, stat, sys, time
libc, last_pid = ctypes.CDLL(None, use_errno=True), "/proc/sys/kernel/ns_last_pid"
print("processes", len([name for name in os.listdir("/proc") if name.isdigit()]), "init", os.path.exists("/proc/1"))
print("first", os.getpid() == 2 or not os.path.exists(last_pid), "parent", os.getppid())
print("files", os.listdir("/tmp"), os.listdir("/dev/shm"), os.listdir("."))
print("shared memory", libc.shmget(0x5E1F, 0, 0) >= 0, "sockets", len(open("/proc/net/unix").readlines()) - 1)
print(random.random(), file=sys.stderr)
"""
_PROBE = (
    f"HIDDEN = {init.HIDDEN}"
    + _LOOK
    + """
facts = {}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    facts[name] = value.split()
def refused(result):
    return errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "allowed"
print("capabilities", sorted({int(facts[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}))
print("no_new_privs", facts["NoNewPrivs"], "seccomp", facts["Seccomp"], facts["Seccomp_filters"])
print("root", 0 in os.getresuid() + os.getresgid() or os.getgroups() != [])
print("unshare", refused(libc.unshare(0x10000000)), "mount", refused(libc.mount(b"none", b"/tmp", b"tmpfs", 0, 0)))
print("clone3", refused(libc.syscall(435, 0, 0)))
# On no socket at all: neither an option that nothing needs (SO_ZEROCOPY), nor a filter.
print("options", *(refused(libc.setsockopt(-1, 1, option, None, 0)) for option in (60, 26)))
try:
    socket.socket(); print("internet allowed")
except OSError as error:
    print("internet", errno.errorcode[error.errno])
try:
    open("/written", "w"); print("rootfs writable")
except OSError as error:
    print("rootfs", errno.errorcode[error.errno])
touched = []
for path in last_pid, *("/dev/" + name for name in ("null", "zero", "full", "random", "urandom")):
    try:
        os.utime(path); touched.append(path)
    except OSError:
        pass
print("touched", touched)
print("descriptors", sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)))
print("devices", [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line])
print("group", {line.rstrip().split(":", 2)[2] for line in open("/proc/self/cgroup")})
print("variables", *sorted(os.environ), "hash seed", sys.flags.hash_randomization)
print("our code", os.listdir("/sandbox"), [name for name in sys.modules if name.startswith("sandbox_service")])
names = "RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CPU", "RLIMIT_MSGQUEUE", "RLIMIT_SIGPENDING"
print("limits", *(resource.getrlimit(getattr(resource, name)) for name in names))
for name in "inotify_instances", "user_namespaces":
    print("most", name, open("/proc/sys/user/max_" + name).read().strip())
disk = os.statvfs("/tmp")
print("disk", disk.f_blocks * disk.f_frsize >> 20, disk.f_files)

# A hidden file is a device; it may also be missing, as in another kernel.
names = [name for name in HIDDEN if os.path.exists("/proc/" + name)]
print("machine", [name for name in names if not stat.S_ISCHR(os.stat("/proc/" + name).st_mode)])
for tell in open, lambda _: time.clock_gettime(~1 << 3 | 2):  # the CPU time of pid 1
    try:
        tell("/proc/1/stat"); print("init is told of")
    except OSError as error:
        print("init", errno.errorcode[error.errno])

# What the next program in this slot must not find.
open("/tmp/left", "w"); open("/dev/shm/left", "w"); libc.shmget(0x5E1F, 4096, 0o1600)
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 3)
    time.sleep(1000)
"""
)
_NOTHING_LEFT = """\
processes 2 init True
first True parent 0
files ['.shm', 'work'] [] ['main.py']
shared memory False sockets 0
"""
_EXPECTED = (
    _NOTHING_LEFT
    + f"""\
capabilities [0]
no_new_privs ['1'] seccomp ['2'] ['FILTERS']
root False
unshare EPERM mount EPERM
clone3 ENOSYS
options ENOPROTOOPT ENOPROTOOPT
internet EAFNOSUPPORT
rootfs EROFS
touched []
descriptors [0, 1, 2]
devices ['lo']
group {{'/'}}
variables HOME LANG MKL_NUM_THREADS MPLBACKEND OMP_NUM_THREADS OPENBLAS_NUM_THREADS PATH PYTHONDONTWRITEBYTECODE \
PYTHONHASHSEED hash seed 0
our code [] []
limits (0, 0) (1024, 1024) ({_DISK_MB << 20}, {_DISK_MB << 20}) ({_CPU_S}, {_CPU_S}) (0, 0) (1024, 1024)
most inotify_instances 0
most user_namespaces 0
disk {_DISK_MB} 16384
machine []
init EPERM
init EINVAL
"""
)
_OUR_FILTERS = 2
"""The jail's and the call's; a container around the worker may have brought more."""

_BOUNDS = Bounds(_TIME_S, _TIME_S, 256, _OUTPUT_BYTES, 16, _DISK_MB, deadline=math.inf)


@dataclass(frozen=True)
class _Excess:
    """A program that goes past one limit, and how it is known to have been stopped."""

    limit: str
    code: str
    bounds: Bounds
    was_stopped: Callable[[Evidence], bool]


# Each ends by itself as well, so that a limit that is missing is found and not waited for.
_BUSY = "import time\nwhile time.process_time() < 2: pass"
_EXCESSES = [
    _Excess("wall", "import time; time.sleep(2)", replace(_BOUNDS, wall_s=0.2), lambda seen: seen.kill is Kill.WALL),
    _Excess("cpu", _BUSY, replace(_BOUNDS, cpu_s=0.1), lambda seen: seen.kill is Kill.CPU),
    _Excess("memory", "x = b'x' * (64 << 20)", replace(_BOUNDS, memory_mb=16), lambda seen: seen.oom_kills > 0),
    _Excess(
        "output",
        "import os\nfor _ in range(160): os.write(1, b'x' * 65536)",
        replace(_BOUNDS, output_bytes=1024),
        lambda seen: seen.kill is Kill.OUTPUT and len(seen.stdout) == 1024,
    ),
    _Excess(
        "processes",
        "import os, time\ntry:\n    while os.fork(): print('x', flush=True)\n    time.sleep(60)\nexcept OSError: pass",
        replace(_BOUNDS, processes=4),
        lambda seen: seen.stdout == b"x\n" * 3,
    ),
]


async def check_before_serving(pool: Pool, slots: int) -> None:
    """Check all slots and all limits. Raise SetupError if that finds anything, or cannot be done."""
    try:
        await check_pool(pool, slots=slots)
        await _check_limits(pool)
    except JailLost as error:
        raise SetupError(f"the self-test could not be made, so nothing will be run here: {error}") from error


async def check_pool(pool: Pool, *, slots: int) -> None:
    """Run the probe in so many slots of every jail at once, then look for what it left behind.

    Raise SetupError, naming the jail and what differs; JailLost if one was lost or got no CPU meanwhile.
    """
    kinds = [kind for kind in pool.kinds for _ in range(slots)]
    expected = _EXPECTED.replace("FILTERS", str(_filters_around_us() + _OUR_FILTERS))
    random = await asyncio.gather(*(_check(pool, *kind, _PROBE, expected) for kind in kinds))
    random += await asyncio.gather(*(_check(pool, *kind, _LOOK, _NOTHING_LEFT) for kind in kinds))
    if len(set(random)) < len(random):
        raise SetupError("the self-test failed: two programs had the same random numbers, so nothing will be run here")


async def _check_limits(pool: Pool) -> None:
    """Go past each limit once, in one of the jails: limits are the worker's and this machine's."""
    image, profile = pool.kinds[0]
    for excess in _EXCESSES:
        evidence = await _run(pool, image, profile, excess.code, excess.bounds)
        if not excess.was_stopped(evidence):
            raise SetupError(
                f"the self-test failed: the limit of {excess.limit} does not hold, so nothing will be run here "
                f"(killed for {evidence.kill}, status {evidence.wait_status}, output {evidence.stdout[:200]!r})"
            )


async def _check(pool: Pool, image: str, profile: Profile, probe: str, expected: str) -> bytes:
    """Return the random number that the probe wrote to stderr."""
    evidence = await _run(pool, image, profile, probe, _BOUNDS)
    if evidence.kill is not None:
        raise JailLost(f"the self-test of image {image}, profile {profile.name} did not end within {_TIME_S:.0f} s")
    seen = evidence.stdout.decode(errors="replace")
    if seen != expected or evidence.cpu_s <= 0 or evidence.memory_peak == 0:
        raise SetupError(
            f"the self-test of image {image}, profile {profile.name} failed, so nothing will be run here.\n"
            f"expected:\n{expected}seen (step {evidence.step}, errno {evidence.errno}, "
            f"status {evidence.wait_status}):\n{seen}{evidence.stderr.decode(errors='replace')}"
        )
    return evidence.stderr


async def _run(pool: Pool, image: str, profile: Profile, code: str, bounds: Bounds) -> Evidence:
    program = Program(code, b"", [], {}, {}, [], show_last_value=False, seed=None, loopback=False)
    bounds = replace(bounds, deadline=time.monotonic() + 2 * _TIME_S)
    evidence, _ = await pool.run(program, image, profile, bounds, lambda slot: True)
    return evidence


def _filters_around_us() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Seccomp_filters":
            return int(value)
    raise SetupError("this kernel does not tell how many system call filters are in force (Linux 5.9 does)")
