# ruff: noqa: E501 (a table)
"""The table of protections: how each is taken away, for tests only.

An edit names the exact text that implements the protection and must find it exactly once: when the code changes, the
mutation fails instead of quietly taking nothing away.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from sandbox_service.models import Job, Result
from sandbox_service.worker import cgroup, evidence, execution, nsjail, pool, slots

Patch = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Edit:
    """Replace `old` by `new` in a file of `inside/` or `deploy/`."""

    file: str
    old: str
    new: str = ""

    def apply(self, root: Path) -> None:
        path = root / self.file
        text = path.read_text()
        found = text.count(self.old)
        assert found == 1, f"{self.file} has {found} places with {self.old!r}: bring the mutation up to date"
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Mutation:
    protection: str
    """What is taken away, as SECURITY.md names it."""
    edits: tuple[Edit, ...] = ()
    patches: tuple[Patch, ...] = ()
    """Changes to the worker's own modules, in the test's process."""

    def __str__(self) -> str:
        return self.protection.replace(" ", "-")

    def edits_of(self, folder: str) -> list[Edit]:
        return [edit for edit in self.edits if edit.file.startswith(f"{folder}/")]


NOTHING = Mutation("nothing")

_INSTALL = Edit("inside/child.py", "        self._seccomp.install()\n", "        pass\n")
_LOOSE = Edit("deploy/jail.policy", "USE jail DEFAULT ERRNO(38)", "DEFAULT ALLOW")

NO_CALL_FILTER = Mutation("the filter of each call", (_INSTALL,))
NO_JAIL_FILTER = Mutation("the filter of the jail", (_LOOSE,))
NO_FILTERS = Mutation("both system call filters", (_INSTALL, _LOOSE))
_ANY_FAMILY = Edit("inside/seccomp.py", "_UNIX_ONLY = Check(((Compare(0, (_AF_UNIX,)),),), errno.EAFNOSUPPORT)",
                   "_UNIX_ONLY = Check(((Compare(0, (0,), mask=0),),), errno.EAFNOSUPPORT)")  # fmt: skip
_ANY_KIND = Edit("inside/seccomp.py", "Compare(1, (1, 2), mask=0xF), Compare(2, (0, 6, 17))", "")
SOCKETS_OF_ALL_FAMILIES = Mutation("the check of socket families", (_ANY_FAMILY, _LOOSE))
LOOPBACK_WITHOUT_CHECKS = Mutation("the check of socket types", (_ANY_KIND, _LOOSE))

_KEEP_UID = Edit("inside/child.py", "            (libc.setresuid, (slot.uid, slot.uid, slot.uid)),\n")
_KEEP_BOUNDING_SET = Edit("inside/zygote.py", "    linux.forbid_capabilities_to_children()\n")
KEEPS_ROOT = Mutation("the change of user id", (_KEEP_UID,))
KEEPS_BOUNDING_SET = Mutation("the empty bounding set", (_KEEP_BOUNDING_SET,))
KEEPS_ROOT_AND_CAPABILITIES = Mutation(
    "the change of user id and the dropped capabilities", (_KEEP_UID, _KEEP_BOUNDING_SET)
)


def _with_writable_root() -> AbstractContextManager[object]:
    command = nsjail.command

    def writable(*arguments: Any) -> list[str]:
        return [*command(*arguments)[:-1], "--rw", "--"]

    return mock.patch.object(nsjail, "command", writable)


WRITABLE_ROOT = Mutation("the read-only root", patches=(_with_writable_root,))

Run = Callable[..., Awaitable[Result]]

JAIL_INHERITS_ENVIRONMENT = Mutation("the empty environment of the jail", (
    Edit("deploy/jail.cfg", "keep_env: false", "keep_env: true"),))  # fmt: skip
DUMPABLE_ZYGOTE_AND_ONE_USER = Mutation("the protected memory of zygote and init", (
    Edit("inside/zygote.py", "    linux.set_dumpable(False)\n"), _KEEP_UID, _INSTALL))  # fmt: skip
KEEPS_DESCRIPTORS = Mutation("the closing of descriptors", (
    Edit("inside/child.py", "(libc.close_range, (3, 0xFFFFFFFF, 0)),", "(libc.close_range, (3, 3, 0)),"),))  # fmt: skip
MODULES_STAY = Mutation("the removal of our modules", (
    Edit("inside/zygote.py", "        del sys.modules[name]  #", "        pass  #"),))  # fmt: skip
PROC_OF_THE_JAIL = Mutation("the slot's own /proc", (
    Edit("inside/init.py", '    linux.mount("proc", "/proc", "proc", _QUIET | linux.MS_NOEXEC)\n'),
    Edit("inside/init.py", '        return os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)', "        return -1"),
))  # fmt: skip
CODE_FOLDER_STAYS = Mutation("the hidden code folder", (
    Edit("inside/init.py", "    linux.unmount(CODE_FOLDER, linux.MNT_DETACH)\n"),))  # fmt: skip


def _with_expected_output() -> AbstractContextManager[object]:
    make = execution._program

    def telling(job: Job) -> pool.Program:
        return replace(make(job), env={**job.env, "EXPECTED": job.expected_stdout or ""})

    return mock.patch.object(execution, "_program", telling)


EXPECTED_OUTPUT_IN_THE_JAIL = Mutation("the comparison outside the jail", patches=(_with_expected_output,))
ZYGOTE_READS_PAYLOADS = Mutation("the unread payload", (
    Edit("inside/zygote.py", "        frame = frames.unpack(packet)\n",
         "        frame = frames.unpack(packet)\n"
         "        self.seen = getattr(self, 'seen', []) + [os.pread(fd, 1 << 20, 0) for fd in descriptors[:1] if frame.kind == 2]\n"),
))  # fmt: skip
_FRESH_FILES = Edit("inside/init.py", "    if not keep_files:\n", "    if False:\n")
_OWN_IPC = Edit("inside/child.py", "            (libc.unshare, (linux.CLONE_NEWIPC,)),\n")
_RESET_PIDS = Edit("inside/init.py", '                os.pwrite(last_pid, b"1", 0)\n', "                pass\n")
WHAT_CLEANS_A_SLOT = [
    Mutation("the fresh files of each call", (_FRESH_FILES,)),
    Mutation("the IPC namespace of each call", (_OWN_IPC,)),
    Mutation("the pids that begin anew", (_RESET_PIDS,)),
]
NETWORK_OF_THE_SLOT = Mutation("the network namespace of a loopback call", (
    Edit("inside/child.py", "    linux.unshare(linux.CLONE_NEWNET)\n"),
))  # fmt: skip
WHAT_CLEANS_A_SLOT.append(Mutation("the wait for sockets in flight", (
    Edit("inside/init.py", "            if doubt is Doubt.NONE and not _are_gone(sockets):\n", "            if False:\n"),
)))  # fmt: skip

NO_CGROUP = Mutation("the cgroup of each call", (
    Edit("inside/child.py", "for fd in slot.cgroup_fds),", "for fd in []),"),
    Edit("inside/slot.py", "                    os.write(fd, b\"0\")\n", "                    pass\n"),
))  # fmt: skip
NETWORK_OF_THE_JAIL = Mutation("the network namespace of each slot", (
    Edit("inside/init.py", " | linux.CLONE_NEWIPC | linux.CLONE_NEWNET)", " | linux.CLONE_NEWIPC)"),
    Edit("inside/child.py", "_SLOT_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWUTS | linux.CLONE_NEWNET",
         "_SLOT_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWUTS"),
))  # fmt: skip


def _failing(step: str, text: str) -> Mutation:
    """A step of a child's set-up that the kernel refuses: a C call that does nothing but fail in its place."""
    return Mutation(f"a working {step}", (Edit("inside/child.py", text, "(libc.close, (-1,)),"),))


_FAILING_SECCOMP = Edit("inside/seccomp.py", "] = _libc.syscall\n", "] = _libc.close\n")
FAILING_STEPS = [
    _failing("cgroup", "(libc.setns, (slot.cgroup_namespace, linux.CLONE_NEWCGROUP)),"),
    _failing("setns", "(libc.setns, (slot.init_fd, _SLOT_NAMESPACES)),"),
    _failing("setresuid", "(libc.setresuid, (slot.uid, slot.uid, slot.uid)),"),
    _failing("close_range", "(libc.close_range, (3, 0xFFFFFFFF, 0)),"),
    Mutation("a working seccomp", (_FAILING_SECCOMP,)),
]


def _waiting_for_the_pipe() -> AbstractContextManager[object]:
    gather = slots.Slot._evidence

    def patient(slot: slots.Slot, frame: Any, watch: Any, before: Any, stdout: Any, stderr: Any, sent: float) -> Any:
        until = time.monotonic() + 1.5
        while not stdout.at_end and time.monotonic() < until and b"42" not in stdout.kept:
            stdout.drain()
        return gather(slot, frame, watch, before, stdout, stderr, sent)

    return mock.patch.object(slots.Slot, "_evidence", patient)


_KILL_NOTHING = Edit("inside/init.py", "    if not _kill_everything():\n", "    if False:\n")
WAITS_FOR_THE_PIPE = Mutation(
    "the answer at exit, not at the end of the pipe", (_KILL_NOTHING,), (_waiting_for_the_pipe,)
)
PROGRESS_PAGE_STAYS = Mutation("the unmapped page of progress", (
    Edit("inside/child.py", "        self._progress.unmap()\n"),))  # fmt: skip


def _without_waiting_for_memory() -> AbstractContextManager[object]:
    return mock.patch.object(cgroup.Leaf, "is_unused", lambda leaf: leaf.processes() == 0)


MEMORY_IS_NOT_AWAITED = Mutation("the wait for a call's memory", patches=(_without_waiting_for_memory,))


def _without_looking_at_the_group() -> AbstractContextManager[object]:
    return mock.patch.object(cgroup.Leaf, "is_unused", return_value=True)


NOTHING_IS_KILLED_NOR_COUNTED = Mutation(
    "the kill of all that is left, and the look at the group after it",
    (_KILL_NOTHING,),
    (_without_looking_at_the_group,),
)


def _patched(target: object, name: str, value: object) -> Patch:
    return lambda: mock.patch.object(target, name, value)


class _NoClock(slots._Watch):
    """Watches output and the deadline only."""

    def _check(self, now: float) -> tuple[evidence.Kill | None, float]:
        return None, now + 0.05


def _without_limit(name: str) -> Patch:
    """The leaf's limits with one of them taken away: up to what a test machine can bear."""
    begin = cgroup.LeafV1.begin, cgroup.LeafV2.begin

    def generous(which: int) -> Callable[..., Any]:
        def replacement(leaf: Any, memory_mb: int, processes: int) -> Any:
            return begin[which](
                leaf, 1024 if name == "memory" else memory_mb, 400 if name == "processes" else processes
            )

        return replacement

    @contextmanager
    def patches() -> Iterator[None]:
        with (
            mock.patch.object(cgroup.LeafV1, "begin", generous(0)),
            mock.patch.object(cgroup.LeafV2, "begin", generous(1)),
        ):
            yield

    return patches


NO_CLOCKS = Mutation("the worker's clocks", patches=(_patched(slots, "_Watch", _NoClock),))
NO_MEMORY_LIMIT = Mutation("the memory limit", patches=(_without_limit("memory"),))
NO_PROCESS_LIMIT = Mutation("the limit of processes", patches=(_without_limit("processes"),))
NO_OUTPUT_LIMIT = Mutation("the output limit", patches=(_patched(slots, "HARD_OUTPUT_FACTOR", 1 << 20),))
NO_DISK_LIMIT = Mutation("the size of the files", (
    Edit("inside/init.py", 'f"size={disk_mb}m,nr_inodes={_FILES_LIMIT},mode=1777"', '"mode=1777"'),))  # fmt: skip
NO_FILE_SIZE_LIMIT = Mutation("the limit of a file's size", (
    Edit("inside/child.py", "        linux.do(((self._limit, (0, resource.RLIMIT_FSIZE, _limits(file_size, file_size), None)),))\n"),))  # fmt: skip
NO_SHARED_LIMITS = Mutation("the bounds on what users share", (
    Edit("inside/zygote.py", "    _limit_what_users_share()\n"),))  # fmt: skip
