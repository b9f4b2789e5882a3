"""The init of a slot: pid 1 of the slot's namespaces, which it makes once and cleans after every call.

It reads no payload and holds no secret. The program cannot signal it (pid 1 ignores what it has no handler for) nor
look into it (not dumpable, another uid).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
import time

from sandbox_service.inside import linux
from sandbox_service.inside.frames import Doubt

CLEAN, CLEAN_KEEPING_FILES, RESIZE, KILL = b"c", b"k", b"r", b"x"
"""Requests; RESIZE is followed by the size in MiB as a little-endian u32. The answer is one byte, a Doubt, but to KILL
there is none."""

CODE_FOLDER = "/sandbox"
WORK_FOLDER = "/tmp/work"
_FILES_LIMIT = 16_384
HIDDEN = (
    *("cmdline", "config.gz", "diskstats", "iomem", "ioports", "kallsyms", "key-users", "keys", "partitions"),
    *("pressure/cpu", "pressure/io", "pressure/irq", "pressure/memory"),  # writing there sets the kernel to work
)
"""Files of /proc that tell of the machine, not of the slot, and that no library needs."""
_KILL_PAUSE_S, _KILL_TRIES = 0.0005, 1000
_COLLECTION_PAUSE_S, _COLLECTION_TRIES = 0.002, 100
_QUIET = linux.MS_NOSUID | linux.MS_NODEV


def serve(channel: socket.socket, uid: int, disk_mb: int) -> None:
    """Make the namespaces, answer one byte, then clean at each request until the zygote is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans are reaped by the kernel, at any time
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWIPC | linux.CLONE_NEWNET)
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    linux.unmount("/tmp", linux.MNT_DETACH)
    linux.unmount(CODE_FOLDER, linux.MNT_DETACH)
    # Of another user's process, which here is this one, no file is told: counts and times of a slot outlive its calls.
    linux.mount("proc", "/proc", "proc", _QUIET | linux.MS_NOEXEC, "hidepid=1")
    _hide_the_machine()
    _mount_files(uid, disk_mb)
    last_pid = _open_last_pid()
    _forbid_settings()
    sockets = os.open("/proc/net/unix", os.O_RDONLY | os.O_CLOEXEC)  # of this network namespace
    channel.send(bytes([Doubt.NONE]))
    while request := channel.recv(16):
        if request == KILL:
            _kill_all_at_once()
            continue
        if request[:1] == RESIZE:
            (disk_mb,) = struct.unpack("<I", request[1:5])
            linux.mount("tmpfs", "/tmp", "tmpfs", _QUIET | linux.MS_REMOUNT, _tmpfs_options(disk_mb))
            doubt = Doubt.NONE
        else:
            doubt = _clean(uid, disk_mb, keep_files=request == CLEAN_KEEPING_FILES)
            if doubt is Doubt.NONE and not _are_gone(sockets):
                doubt = Doubt.SOCKETS
            if last_pid >= 0:
                os.pwrite(last_pid, b"1", 0)
        channel.send(bytes([doubt]))


def _clean(uid: int, disk_mb: int, *, keep_files: bool) -> Doubt:
    if not _kill_everything():
        return Doubt.PROCESSES
    if not keep_files:
        try:
            linux.unmount("/tmp")
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A socket in flight can keep a file open although no process is left; out of sight it frees itself.
            linux.unmount("/tmp", linux.MNT_DETACH)
        _mount_files(uid, disk_mb)
    return Doubt.NONE


def _kill_all_at_once() -> None:
    """Kill the program with all its processes: killed alone, it may get no CPU to end with beside those it started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)


def _kill_everything() -> bool:
    """Kill every process of the slot but this one; kill(-1) is atomic against fork. False if one survives."""
    for _ in range(_KILL_TRIES):
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return True
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(_KILL_PAUSE_S)  # the last ones are no children any more, but still in the list of processes
    return False


def _are_gone(sockets: int) -> bool:
    """Wait until the kernel has collected sockets that hold one another in flight; False if it does not.

    SECURITY: until then the next call finds their names taken (tests/security: `test_nothing_planted_is_found...`).
    """
    for _ in range(_COLLECTION_TRIES):
        if os.pread(sockets, 1024, 0).count(b"\n") <= 1:  # the heading alone
            return True
        time.sleep(_COLLECTION_PAUSE_S)
        socket.socket(socket.AF_UNIX).close()  # closing one makes the kernel look
    return False


def _tmpfs_options(disk_mb: int) -> str:
    return f"size={disk_mb}m,nr_inodes={_FILES_LIMIT},mode=1777"


def _mount_files(uid: int, disk_mb: int) -> None:
    linux.mount("tmpfs", "/tmp", "tmpfs", _QUIET, _tmpfs_options(disk_mb))
    os.mkdir(WORK_FOLDER, 0o700)
    os.chown(WORK_FOLDER, uid, uid)
    os.mkdir("/tmp/.shm")
    os.chmod("/tmp/.shm", 0o1777)  # /dev/shm of the rootfs leads here


def _hide_the_machine() -> None:
    for path in (f"/proc/{name}" for name in HIDDEN):
        if os.path.exists(path):
            linux.mount("/dev/null", path, "", linux.MS_BIND)


def _forbid_settings() -> None:
    """Make /proc/sys read-only: to set a file's times takes no capability, and the slot's later calls can read them."""
    linux.mount("/proc/sys", "/proc/sys", "", linux.MS_BIND)
    read_only = linux.MS_BIND | linux.MS_REMOUNT | linux.MS_RDONLY
    linux.mount("none", "/proc/sys", "", read_only | _QUIET | linux.MS_NOEXEC)


def _open_last_pid() -> int:
    """Open the file that sets where pids go on, so that every call is pid 2 and cannot count those before it.

    -1 where the kernel was built without it: then pids only grow.
    """
    try:
        return os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
