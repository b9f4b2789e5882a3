"""A slot as the zygote sees it: prepared namespaces, held by an init, with at most one child in them."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time

from sandbox_service.inside import init, linux
from sandbox_service.inside.frames import Doubt

_ANSWER_TIME_S = 5.0
_END_TIME_S = 20.0
"""Hundreds of processes with page tables of GiBs are on their way for seconds, and more on a busy machine."""
_NO_DOUBT = Doubt.NONE
_CLEAN = bytes([_NO_DOUBT])


class SlotLost(Exception):
    """The init of a slot is gone, stuck or could not do its work."""


class Slot:
    """Owns the init and the descriptors that lead to it.

    `home` is a descriptor of the zygote's own pid namespace, to return to after a fork into the slot's.
    """

    def __init__(self, index: int, uid: int, disk_mb: int, home: int) -> None:
        self.index = index
        self.uid = uid
        self.disk_mb = disk_mb
        self.home = home
        self.cgroup_fds: list[int] = []
        self.cgroup_namespace = -1
        self.epoch = 0
        self.child = 0
        self.child_fd = -1
        self.keep_files = False
        self.cleaning_since: float | None = None
        self._start_init()

    def _start_init(self) -> None:
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(_ANSWER_TIME_S)
        linux.unshare(linux.CLONE_NEWPID)
        self.init = os.fork()
        if self.init == 0:
            try:
                self.channel.close()
                channel = socket.socket(fileno=os.dup2(theirs.fileno(), 3, inheritable=False))
                linux.close_from(4)  # what the zygote holds by now is none of an init's business
                init.serve(channel, self.uid, self.disk_mb)
            finally:
                os._exit(1)
        linux.setns(self.home, linux.CLONE_NEWPID)
        theirs.close()
        self.init_fd = os.pidfd_open(self.init)
        self._expect_no_doubt()

    def attach(self, cgroup_fds: list[int]) -> None:
        """Take the descriptors by which a child enters its cgroup.

        Make a cgroup namespace rooted there, so that no program sees the names of groups: a process has to be in the
        group to make it, and the descriptor keeps it alive when that process is gone. OSError if it fails.
        """
        self.cgroup_fds = cgroup_fds
        pid = os.fork()
        if pid == 0:
            try:
                for fd in cgroup_fds:
                    os.write(fd, b"0")
                linux.unshare(linux.CLONE_NEWCGROUP)
                os.kill(os.getpid(), signal.SIGSTOP)
            finally:
                os._exit(1)
        os.waitpid(pid, os.WUNTRACED)
        self.cgroup_namespace = os.open(f"/proc/{pid}/ns/cgroup", os.O_RDONLY | os.O_CLOEXEC)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def _expect_no_doubt(self) -> None:
        if self.answer() is not _NO_DOUBT:
            raise SlotLost(f"the init of slot {self.index} failed")

    def answer(self) -> Doubt:
        """Read the init's answer; whatever is not a plain Doubt is INIT."""
        try:
            packet = self.channel.recv(16)
            if packet == _CLEAN:  # to look up a member of an enumeration runs functions, whose pages a fork has to copy
                return _NO_DOUBT
            return Doubt(packet[0]) if len(packet) == 1 else Doubt.INIT
        except (OSError, ValueError):
            return Doubt.INIT

    def fork(self, disk_mb: int) -> int:
        """Fork into the slot's pid namespace; the child still has to join the others (`child.py`)."""
        if disk_mb != self.disk_mb:
            self.channel.send(init.RESIZE + struct.pack("<I", disk_mb))
            self._expect_no_doubt()
            self.disk_mb = disk_mb
        linux.setns(self.init_fd, linux.CLONE_NEWPID)
        try:
            pid = linux.fork()  # ENOMEM here means that the slot's init is dead
        except OSError:
            linux.setns(self.home, linux.CLONE_NEWPID)
            raise
        if pid:
            linux.setns(self.home, linux.CLONE_NEWPID)
        return pid

    def kill(self) -> None:
        """Kill the child and every other process of its program, at once."""
        os.kill(self.child, signal.SIGKILL)
        with contextlib.suppress(OSError):  # an init that is gone has taken them all with it
            self.channel.send(init.KILL)

    def start_cleaning(self) -> None:
        self.cleaning_since = time.monotonic()
        self.channel.send(init.CLEAN_KEEPING_FILES if self.keep_files else init.CLEAN)

    def is_stuck(self) -> bool:
        return self.cleaning_since is not None and time.monotonic() > self.cleaning_since + _END_TIME_S

    def replace(self) -> None:
        """Give up these namespaces, killing all in them, and make new ones. SlotLost if they do not end."""
        os.kill(self.init, signal.SIGKILL)
        end = select.poll()
        end.register(self.init_fd)
        if not end.poll(_END_TIME_S * 1000):
            raise SlotLost(f"the init of slot {self.index} cannot be killed")
        os.waitpid(self.init, 0)
        os.close(self.init_fd)
        self.channel.close()
        self.cleaning_since = None
        self._start_init()
