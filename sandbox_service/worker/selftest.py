"""Attacks every jail of a pool before it may serve, and whenever asked: a layer that is missing shows here.

The probe runs as any call does and reports what it finds; what it reports is compared here with what must be so.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from sandbox_service.errors import SetupError
from sandbox_service.worker.pool import Pool, Program
from sandbox_service.worker.profiles import Profile
from sandbox_service.worker.slots import Bounds

_PROBE = """
import ctypes, errno, os, socket
facts = {}
for line in open("/proc/self/status"):
    name, _, value = line.partition(":")
    facts[name] = value.split()
libc = ctypes.CDLL(None, use_errno=True)
def refused(result):
    return errno.errorcode.get(ctypes.get_errno(), "?") if result < 0 else "allowed"
print("capabilities", sorted({int(facts[name][0], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}))
print("no_new_privs", facts["NoNewPrivs"], "seccomp", facts["Seccomp"], facts["Seccomp_filters"])
print("root", 0 in os.getresuid() + os.getresgid() or os.getgroups() != [])
print("unshare", refused(libc.unshare(0x10000000)), "mount", refused(libc.mount(b"none", b"/tmp", b"tmpfs", 0, 0)))
try:
    socket.socket(); print("internet allowed")
except OSError as error:
    print("internet", errno.errorcode[error.errno])
try:
    open("/written", "w"); print("rootfs writable")
except OSError as error:
    print("rootfs", errno.errorcode[error.errno])
print("descriptors", sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)))
print("processes", sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit()))
print("parent", os.getppid())
devices = [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line]
print("devices", devices, "sockets", len(open("/proc/net/unix").readlines()) - 1)
print("group", {line.rstrip().split(":", 2)[2] for line in open("/proc/self/cgroup")})
"""
_EXPECTED = """\
capabilities [0]
no_new_privs ['1'] seccomp ['2'] ['FILTERS']
root False
unshare EPERM mount EPERM
internet EAFNOSUPPORT
rootfs EROFS
descriptors [0, 1, 2]
processes [1, 2]
parent 0
devices ['lo'] sockets 0
group {'/'}
"""
_OUR_FILTERS = 2
"""The jail's and the call's; a container around the worker may have brought more."""
_TIME_S = 20.0


async def check_pool(pool: Pool, *, slots: int) -> None:
    """Run the probe in so many slots of every jail at once. Raise SetupError, naming the jail and what differs."""
    await asyncio.gather(*(_check(pool, image, profile) for image, profile in pool.kinds for _ in range(slots)))


async def _check(pool: Pool, image: str, profile: Profile) -> None:
    program = Program(_PROBE, b"", [], {}, {}, [], show_last_value=False, seed=None, loopback=False)
    bounds = Bounds(_TIME_S, _TIME_S, 256, 65536, 16, 16, deadline=time.monotonic() + 2 * _TIME_S)
    evidence, _ = await pool.run(program, image, profile, bounds, lambda slot: True)
    seen = (evidence.stdout + evidence.stderr).decode(errors="replace")
    expected = _EXPECTED.replace("FILTERS", str(_filters_around_us() + _OUR_FILTERS))
    if seen != expected or evidence.cpu_s <= 0 or evidence.memory_peak == 0:
        raise SetupError(
            f"the self-test of image {image}, profile {profile.name} failed, so nothing will be run here.\n"
            f"expected:\n{expected}seen (step {evidence.step}, errno {evidence.errno}, "
            f"status {evidence.wait_status}):\n{seen}"
        )


def _filters_around_us() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "Seccomp_filters":
            return int(value)
    raise SetupError("this kernel does not tell how many system call filters are in force (Linux 5.9 does)")
