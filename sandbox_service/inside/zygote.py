"""The zygote: a warm interpreter in a jail, which forks one child per execution straight into a slot.

Started by nsjail as `python -m sandbox_service.inside.zygote`, its configuration as standard input and its control
socket inherited. It makes the slots first (they are small then), imports the profile's modules, rehearses a call, and
serves frames (`frames.py`) from one thread.

Invariants:
- it never opens a payload: the child reads it after the fork, so nothing of one call is in the memory of the next;
- it holds no secret, no id of a call, and no descriptor that a child keeps;
- STARTED, EXITED and CLEANED are sent for each RUN, exactly once each and in this order;
- when the worker is gone (end of file) it exits, and the kernel ends the whole jail with it.
"""

from __future__ import annotations

if __name__ == "__main__":  # before the imports below, whose objects are to lie there
    from sandbox_service.inside import heap

    heap.gather()

import contextlib
import errno
import json
import os
import resource
import select
import socket
import struct
import sys
import time

from sandbox_service.inside import frames, linux, memory, runner, seccomp
from sandbox_service.inside.child import Entrance, Progress, become, rehearse
from sandbox_service.inside.frames import Doubt, Flag, Frame, Kind, Step
from sandbox_service.inside.slot import Slot, SlotLost

_OPEN_FILES = 1024
_PENDING_SIGNALS = 1024
_LOOK_AGAIN_S = 1.0
_CREDENTIALS = struct.Struct("3i")
_ROOM_FOR_DESCRIPTORS = socket.CMSG_SPACE(8 * struct.calcsize("i"))
# As plain numbers: to look up a member of an enumeration runs a function each time, whose pages a fork has to copy.
_ATTACH, _RUN, _KILL = Kind.ATTACH.value, Kind.RUN.value, Kind.KILL.value
_STARTED, _EXITED, _CLEANED = Kind.STARTED.value, Kind.EXITED.value, Kind.CLEANED.value
_KEEP_FILES = Flag.KEEP_FILES.value
_FORKED, _NO_DOUBT = Step.FORKED.value, Doubt.NONE
_pack = frames.LAYOUT.pack


class Zygote:
    __module__ = "sandbox_service.inside.zygote"  # not `__main__`, where a program may look for classes of its own

    def __init__(self, control: socket.socket, slots: list[Slot]) -> None:
        self.control = control
        self.slots = slots
        self.progress = Progress(len(slots))
        self.entrances: dict[int, Entrance] = {}
        self.filter = seccomp.Filter(seccomp.build())
        self.loopback_filter = seccomp.Filter(seccomp.build(loopback=True))
        self.epoll = select.epoll()
        self.by_fd: dict[int, Slot] = {}
        self.epoll.register(control.fileno(), select.EPOLLIN)
        for slot in slots:
            self._watch(slot, slot.channel.fileno())

    def serve(self) -> None:
        self.control.send(frames.pack(Frame(Kind.READY)))
        look_again = 0.0
        while True:
            for fd, _ in self.epoll.poll(_LOOK_AGAIN_S):
                if fd == self.control.fileno():
                    self._receive()
                elif (slot := self.by_fd.get(fd)) is None:
                    continue  # its slot was replaced earlier in this round
                elif fd == slot.child_fd:
                    self._reap(slot)
                else:
                    self._answered(slot)
            if (now := time.monotonic()) > look_again:
                look_again = now + _LOOK_AGAIN_S
                for slot in self.slots:
                    if slot.is_stuck():
                        self._retire(slot, Doubt.INIT)

    def rehearse(self) -> None:
        rehearse(Entrance(self.slots[0], Progress(1), self.filter, self.loopback_filter))

    def _entrance(self, slot: Slot) -> Entrance:
        entrance = Entrance(slot, self.progress, self.filter, self.loopback_filter)
        memory.fill_free_list()
        return entrance

    def _watch(self, slot: Slot, fd: int) -> None:
        self.by_fd[fd] = slot
        self.epoll.register(fd, select.EPOLLIN)

    def _forget(self, fd: int) -> None:
        if self.by_fd.pop(fd, None) is not None:
            self.epoll.unregister(fd)

    def _tell(
        self, kind: int, slot: Slot, value: int = 0, step: int = 0, errno: int = 0, when_ns: int = 0, delay_ns: int = 0
    ) -> None:
        """Send a frame, its fields by their places: a Frame made by name costs more pages after each fork."""
        self.control.send(_pack(kind, slot.index, slot.epoch, 0, value, 0, step, errno, when_ns, 0, delay_ns))

    def _receive(self) -> None:
        packet, passed, _, _ = self.control.recvmsg(frames.SIZE, _ROOM_FOR_DESCRIPTORS)
        if not packet:
            os._exit(0)
        descriptors = list(memoryview(passed[0][2]).cast("i")) if passed else []
        frame = frames.unpack(packet)
        kind, index, epoch = frame[:3]
        slot = self.slots[index]
        if kind == _RUN:
            self._run(slot, frame, descriptors)
        elif kind == _ATTACH:
            slot.attach(descriptors)
            self.entrances[slot.index] = self._entrance(slot)
        elif kind == _KILL and slot.child and slot.epoch == epoch:
            slot.kill()

    def _run(self, slot: Slot, frame: Frame, descriptors: list[int]) -> None:
        slot.epoch, flags, disk_mb = frame[2:5]
        slot.keep_files = bool(flags & _KEEP_FILES)
        self.progress.mark(slot.index, _FORKED)
        try:
            slot.child = slot.fork(disk_mb)
        except (OSError, SlotLost) as error:
            errno = getattr(error, "errno", 0) or 0
            self._tell(_STARTED, slot, when_ns=time.monotonic_ns())
            self._tell(_EXITED, slot, step=_FORKED, errno=errno)
            self._retire(slot, Doubt.INIT)
            return
        else:
            if slot.child == 0:
                become(self.entrances[slot.index], frame, descriptors)
            forked_ns = time.monotonic_ns()
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        slot.child_fd = os.pidfd_open(slot.child)
        self._watch(slot, slot.child_fd)
        started = _pack(_STARTED, slot.index, slot.epoch, 0, 0, 0, 0, 0, forked_ns, 0, 0)
        whose = _CREDENTIALS.pack(slot.child, 0, 0)
        self.control.sendmsg([started], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, whose)])

    def _reap(self, slot: Slot) -> None:
        when_ns = time.monotonic_ns()
        run_delay_ns = _run_delay(slot.child)
        _, status = os.waitpid(slot.child, 0)
        self._forget(slot.child_fd)
        os.close(slot.child_fd)
        slot.child, slot.child_fd = 0, -1
        step, errno = self.progress.read(slot.index)
        init_is_there = True
        try:
            slot.start_cleaning()
        except OSError as error:
            # The init died, and the kernel ended the program with it: our fault, not a signal of the program's.
            init_is_there = False
            step, errno = _FORKED, error.errno or 0
        self._tell(_EXITED, slot, status, step, errno, when_ns, run_delay_ns)
        if not init_is_there:
            self._retire(slot, Doubt.INIT)

    def _answered(self, slot: Slot) -> None:
        """The slot's init said something, or is gone."""
        doubt = slot.answer()
        if slot.cleaning_since is None:
            self._forget(slot.channel.fileno())  # it died; with a child under way, `_reap` finds out next
            if not slot.child:
                self._replace(slot)
        elif doubt is _NO_DOUBT:
            slot.cleaning_since = None
            self._tell(_CLEANED, slot)
        else:
            self._retire(slot, doubt)

    def _replace(self, slot: Slot) -> None:
        slot.replace()
        self.entrances[slot.index] = self._entrance(slot)
        self._watch(slot, slot.channel.fileno())

    def _retire(self, slot: Slot, doubt: Doubt) -> None:
        """Replace a slot that is in doubt. If that fails too, the zygote ends and the worker makes a new jail."""
        self._forget(slot.channel.fileno())
        self._replace(slot)
        self._tell(_CLEANED, slot, doubt)


def _run_delay(pid: int) -> int:
    """Nanoseconds for which a dead child that is not yet reaped waited for a CPU; 0 if the kernel does not tell."""
    try:
        file = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY)
        try:
            return int(os.read(file, 64).split()[1])
        finally:
            os.close(file)
    except (OSError, ValueError, IndexError):
        return 0


def _limit_what_users_share() -> None:
    """Bound what the kernel counts not for a process but for its user, and for the user who made the jail as well.

    SECURITY: one call could use up all that the machine's other processes have (tests/security:
    `test_what_the_kernel_counts_by_user_is_left_for_others`).
    """
    resource.setrlimit(resource.RLIMIT_SIGPENDING, (_PENDING_SIGNALS, _PENDING_SIGNALS))
    resource.setrlimit(resource.RLIMIT_MSGQUEUE, (0, 0))
    for what in ("inotify_instances", "user_namespaces"):
        with open(f"/proc/sys/user/max_{what}", "w") as file:
            file.write("0")


def _be_of_a_session() -> None:
    """Take an audit session, if the worker had none: each one that is begun is counted and logged by the machine.

    SECURITY: every process without one may begin one (tests/security: `test_no_program_begins_an_audit_session`).
    """
    with contextlib.suppress(OSError), open("/proc/self/loginuid", "w") as file:
        file.write("0")


def _require_filter() -> None:
    """SECURITY: the jail's own filter is behind that of each call, where no call can see whether it is there."""
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return
    raise RuntimeError("the jail's system call filter is not in force")


def main() -> None:
    """Set up from the JSON on standard input: control_fd, slots, uid_base, disk_mb, modules, warm_up."""
    config = json.load(sys.stdin)
    os.environ.pop("LD_BIND_NOW", None)  # it was for this interpreter, not for programs that a call starts
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    control = socket.socket(fileno=config["control_fd"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    _limit_what_users_share()
    _be_of_a_session()
    _require_filter()
    linux.set_dumpable(False)
    linux.forbid_capabilities_to_children()
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    slots = [Slot(index, config["uid_base"] + index, config["disk_mb"], home) for index in range(config["slots"])]
    zygote = Zygote(control, slots)
    runner.prepare(config["modules"], config["warm_up"], zygote.rehearse)
    for name in [name for name in sys.modules if name.split(".")[0] == __package__.split(".")[0]]:
        del sys.modules[name]  # what a program sees in sys.modules is what a cold interpreter would have
    zygote.serve()


if __name__ == "__main__":
    main()
