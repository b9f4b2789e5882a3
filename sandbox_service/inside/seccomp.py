"""The filter of one execution: compiles `syscalls.tbl` to classic BPF, and installs the result in this process.

The compiled program is a binary search over the ranges of the table, because the kernel runs it for every system call
and, at installation, once for every number it knows. Layout: architecture and x32 tests, the nodes of the tree, one
exit for each rule, the argument checks that exits lead to.

Invariants: what is not listed gets ENOSYS; another architecture or the x32 bit ends the process; arguments are
compared in the 32 bits that the kernel takes, never more, so that set high bits can't turn a refusal into a pass.
All checked arguments are of types int, unsigned or narrower, or flags whose listed bits are in the low half.

A killed process is reported by its wait status alone (SIGSYS). Which call it was, only the machine's log tells
(worker/kernel_log.py). What lies in memory, such as the flags of clone3, no filter can see.

Standard library only, and no neighbours: it runs in the jail, in the zygote, which must stay small.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("syscalls.tbl")

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
DEFAULT = "ENOSYS"

# What a program returns: linux/seccomp.h.
KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000

# Instructions: linux/bpf_common.h. A program reads struct seccomp_data: number, architecture, address, six arguments.
LOAD, AND, JUMP, IF_EQUAL, IF_AT_LEAST, IF_SET, RETURN = 0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06
AT_NUMBER, AT_ARCH, AT_ARGUMENTS = 0, 4, 16

_MAX_INSTRUCTIONS = 4096
_MAX_JUMP = 255
_ALL_BITS = 0xFFFFFFFF


class Compare(NamedTuple):
    """The low half of argument number `argument`, less the bits outside `mask`, is one of `values`, or none of them."""

    argument: int
    values: tuple[int, ...]
    mask: int = _ALL_BITS
    is_in: bool = True

    def holds(self, low_half: int) -> bool:
        return (low_half & self.mask in self.values) == self.is_in


class Check(NamedTuple):
    """Allow if all tests of one of the alternatives hold; otherwise fail with this errno, or with 0 do nothing and say
    that it was done."""

    alternatives: tuple[tuple[Compare, ...], ...]
    otherwise: int


_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_UNIX_ONLY = Check(((Compare(0, (_AF_UNIX,)),),), errno.EAFNOSUPPORT)
_UNIX_AND_LOOPBACK = Check(
    (
        (Compare(0, (_AF_UNIX,)),),
        # Streams and datagrams of the default protocol, TCP or UDP: not raw, not ICMP, not SCTP.
        (Compare(0, (_AF_INET, _AF_INET6)), Compare(1, (1, 2), mask=0xF), Compare(2, (0, 6, 17))),
    ),
    errno.EAFNOSUPPORT,
)
_SOL_SOCKET, _IPPROTO_IP, _IPPROTO_TCP, _IPPROTO_IPV6 = 1, 0, 6, 41
_SOCKET_OPTIONS = (
    Compare(1, (_SOL_SOCKET,)),
    # REUSEADDR TYPE ERROR DONTROUTE BROADCAST SNDBUF RCVBUF KEEPALIVE OOBINLINE PRIORITY LINGER REUSEPORT PASSCRED
    # PEERCRED RCVLOWAT SNDLOWAT RCVTIMEO SNDTIMEO ACCEPTCONN PROTOCOL DOMAIN RCVTIMEO_NEW SNDTIMEO_NEW.
    # Above all no filter: thousands that are freed at once can leave the kernel unable to install another.
    Compare(2, (*range(2, 11), 12, 13, *range(15, 22), 30, 38, 39, 66, 67)),
)
_OPTIONS_OF_UNIX = Check((_SOCKET_OPTIONS,), errno.ENOPROTOOPT)
_OPTIONS_OF_UNIX_AND_LOOPBACK = Check(
    (
        _SOCKET_OPTIONS,
        # NODELAY MAXSEG CORK KEEPIDLE KEEPINTVL KEEPCNT SYNCNT LINGER2 DEFER_ACCEPT WINDOW_CLAMP INFO QUICKACK
        # USER_TIMEOUT NOTSENT_LOWAT: no other protocol on top (ULP), no keys.
        (Compare(1, (_IPPROTO_TCP,)), Compare(2, (*range(1, 13), 18, 25))),
        # TOS TTL RECVERR MULTICAST_IF MULTICAST_TTL MULTICAST_LOOP
        (Compare(1, (_IPPROTO_IP,)), Compare(2, (1, 2, 11, 32, 33, 34))),
        # UNICAST_HOPS MULTICAST_IF MULTICAST_HOPS MULTICAST_LOOP RECVERR V6ONLY TCLASS
        (Compare(1, (_IPPROTO_IPV6,)), Compare(2, (16, 17, 18, 19, 25, 26, 67))),
    ),
    errno.ENOPROTOOPT,
)
_NOT_A_DEVICE = (0, 0x8000, 0x1000, 0xC000)  # S_IFMT of: unset, a file, a pipe, a socket

CHECKS = {
    # Every CLONE_NEW* bit, and CLONE_PARENT, whose child would hang on the zygote.
    "flags_of_clone": Check(((Compare(0, (0,), mask=0x7E028000),),), errno.EPERM),
    # The clock of a process is ~pid << 3 | kind. The CPU time of pid 1, the init, counts the slot's earlier calls.
    "clock_of_gettime": Check(((Compare(0, (0xFFFFFFF0,), mask=0xFFFFFFF8, is_in=False),),), errno.EINVAL),
    # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
    "request_of_ioctl": Check(((Compare(1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),),), errno.ENOTTY),
    "family_of_socket": _UNIX_ONLY,
    "family_of_socketpair": _UNIX_ONLY,
    "option_of_socket": _OPTIONS_OF_UNIX,
    "command_of_fcntl": Check(
        (
            # Descriptors, flags, record and description locks, owner, seals, sizes, hints: all but F_NOTIFY and
            # F_SETLEASE, with which one process can stall or watch another ...
            (Compare(1, (*range(12), 15, 16, 36, 37, 38, 1025, 1027, 1028, 1030, *range(1032, 1039))),),
            # ... and F_SETPIPE_SZ above the 64 KiB that each pipe starts with.
            (Compare(1, (1031,)), Compare(2, (0,), mask=0xFFFF0000)),
            (Compare(1, (1031,)), Compare(2, (0x10000,))),
        ),
        errno.EPERM,
    ),
    "flags_of_readv2": Check(((Compare(5, (0,)),),), errno.EOPNOTSUPP),
    "mode_of_mknod": Check(((Compare(1, _NOT_A_DEVICE, mask=0xF000),),), errno.EPERM),
    "mode_of_mknodat": Check(((Compare(2, _NOT_A_DEVICE, mask=0xF000),),), errno.EPERM),
    # Huge pages of the reserved pool are not counted as the call's memory: MAP_HUGETLB, MFD_HUGETLB.
    "flags_of_mmap": Check(((Compare(3, (0,), mask=0x40000),),), errno.ENOMEM),
    "flags_of_memfd": Check(((Compare(1, (0,), mask=0x4),),), errno.ENOMEM),
    # SHM_HUGETLB, and SHM_LOCK and SHM_UNLOCK: what is locked is counted by user until the kernel gets round to freeing
    # it, against the slot's next call.
    "flags_of_shmget": Check(((Compare(2, (0,), mask=0x800),),), errno.ENOMEM),
    "command_of_shmctl": Check(((Compare(1, (11, 12), is_in=False),),), errno.EPERM),
    # But POSIX_FADV_DONTNEED, which takes files of the image out of everybody's memory. As advice it may do nothing.
    "advice_of_fadvise": Check(((Compare(3, (0, 1, 2, 3, 5)),),), 0),
    # SCHED_OTHER, SCHED_BATCH and SCHED_IDLE, with or without SCHED_RESET_ON_FORK.
    "policy_of_scheduler": Check(((Compare(1, (0, 3, 5), mask=0xBFFFFFFF),),), errno.EPERM),
    # To read, or to set the default.
    "value_of_personality": Check(((Compare(0, (0, 0xFFFFFFFF)),),), errno.EPERM),
    "option_of_prctl": Check(
        (
            # SET_PDEATHSIG SET_NAME SET_CHILD_SUBREAPER SET_NO_NEW_PRIVS SET_VMA
            (Compare(0, (1, 15, 36, 38, 0x53564D41)),),
            # GET_: PDEATHSIG DUMPABLE KEEPCAPS TIMING NAME SECCOMP CAPBSET TSC SECUREBITS TIMERSLACK MCE_KILL
            # CHILD_SUBREAPER NO_NEW_PRIVS TID_ADDRESS THP_DISABLE SVE_VL SPECULATION_CTRL TAGGED_ADDR_CTRL
            # PAC_ENABLED_KEYS SME_VL MDWE AUXV
            (
                Compare(
                    0, (2, 3, 7, 13, 16, 21, 23, 25, 27, 30, 34, 37, 39, 40, 42, 51, 52, 56, 61, 64, 66, 0x41555856)
                ),
            ),
        ),
        errno.EPERM,
    ),
}
_WITH_LOOPBACK = {"family_of_socket": _UNIX_AND_LOOPBACK, "option_of_socket": _OPTIONS_OF_UNIX_AND_LOOPBACK}

Rule = str
Instruction = tuple[int, int, int, int]
"""Operation, how far to jump if true and if false, operand."""


class Node(NamedTuple):
    """`at_least` is for numbers from `pivot` on, `below` for smaller ones; each another node's index or a rule."""

    pivot: int
    at_least: int | Rule
    below: int | Rule


def build(machine: str | None = None, loopback: bool = False) -> bytes:
    """The filter for `machine` (default: this one), an array of struct sock_filter; `loopback` adds inet sockets."""
    machine = machine or os.uname().machine
    if machine not in AUDIT_ARCH:
        raise ValueError(f"no filter for machine {machine!r}; {TABLE.name} has columns for {', '.join(AUDIT_ARCH)}")
    program: list[Instruction] = [
        (LOAD, 0, 0, AT_ARCH),
        (IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, AT_NUMBER),
        (IF_SET, 0, 1, X32_BIT),
        (RETURN, 0, 0, KILL_PROCESS),
        *_search(read_table(machine), checks(loopback)),
    ]
    if len(program) >= _MAX_INSTRUCTIONS:
        raise ValueError(f"the filter has {len(program)} instructions; the kernel takes less than {_MAX_INSTRUCTIONS}")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def read_table(machine: str) -> dict[int, Rule]:
    """The rule of each listed system call number."""
    return {number: rule for number, _, rule in _rows(machine)}


def names(machine: str) -> dict[int, str]:
    """The name of each listed system call number."""
    return {number: name for number, name, _ in _rows(machine)}


def _rows(machine: str) -> list[tuple[int, str, Rule]]:
    column = list(AUDIT_ARCH).index(machine)
    lines = (line.split() for line in TABLE.read_text().splitlines() if line and not line.startswith("#"))
    return [(int(fields[column]), fields[2], fields[3]) for fields in lines if fields[column] != "-"]


def checks(loopback: bool) -> dict[Rule, Check]:
    return CHECKS | _WITH_LOOPBACK if loopback else CHECKS


def _search(table: dict[int, Rule], named_checks: dict[Rule, Check]) -> list[Instruction]:
    nodes: list[Node] = []
    _grow(_ranges(table), nodes)
    rules = dict.fromkeys(branch for node in nodes for branch in (node.at_least, node.below) if isinstance(branch, str))
    exit_at = {rule: len(nodes) + index for index, rule in enumerate(rules)}

    def distance(here: int, branch: int | Rule) -> int:
        jump = (branch if isinstance(branch, int) else exit_at[branch]) - here - 1
        if jump > _MAX_JUMP:
            raise ValueError(f"the tree of {len(nodes)} nodes is too large for one pool of exits: split the pool")
        return jump

    tree = [
        (IF_AT_LEAST, distance(here, node.at_least), distance(here, node.below), node.pivot)
        for here, node in enumerate(nodes)
    ]
    exits: list[Instruction] = []
    blocks: list[Instruction] = []
    for rule in rules:
        if rule in named_checks:
            exits.append((JUMP, 0, 0, len(rules) - len(exits) - 1 + len(blocks)))
            blocks += _check(named_checks[rule])
        else:
            exits.append((RETURN, 0, 0, _verdict(rule)))
    return [*tree, *exits, *blocks]


def _ranges(table: dict[int, Rule]) -> list[tuple[int, Rule]]:
    """First number and rule of each run of numbers with one rule, from 0 on; the last run has no end."""
    ranges: list[tuple[int, Rule]] = []
    for number in range(max(table) + 2):
        rule = table.get(number, DEFAULT)
        if not ranges or ranges[-1][1] != rule:
            ranges.append((number, rule))
    return ranges


def _grow(ranges: list[tuple[int, Rule]], nodes: list[Node]) -> int | Rule:
    """Append the balanced tree over `ranges`, parents before children; return its root."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    here = len(nodes)
    nodes.append(Node(0, "", ""))  # keeps the place until the children are known
    below, at_least = _grow(ranges[:middle], nodes), _grow(ranges[middle:], nodes)
    nodes[here] = Node(ranges[middle][0], at_least, below)
    return here


def _check(check: Check) -> list[Instruction]:
    """A test that fails jumps behind its alternative, where the next one or the refusal stands."""
    block: list[Instruction] = []
    for tests in check.alternatives:
        alternative: list[Instruction] = [(RETURN, 0, 0, ALLOW)]
        for test in reversed(tests):
            alternative = [*_test(test, len(alternative)), *alternative]
        block += alternative
    return [*block, (RETURN, 0, 0, ERRNO | check.otherwise)]


def _test(test: Compare, rest: int) -> list[Instruction]:
    """Go on behind this test if it holds, else jump over the `rest` instructions of its alternative."""
    # SECURITY: the low half alone; test_seccomp_compiled.py sets the high half.
    load: list[Instruction] = [(LOAD, 0, 0, AT_ARGUMENTS + 8 * test.argument)]
    if test.mask != _ALL_BITS:
        load.append((AND, 0, 0, test.mask))
    last = len(test.values) - 1
    if not test.is_in:
        return [*load, *((IF_EQUAL, rest + last - n, 0, value) for n, value in enumerate(test.values))]
    return [*load, *((IF_EQUAL, last - n, rest if n == last else 0, value) for n, value in enumerate(test.values))]


def _verdict(rule: Rule) -> int:
    if rule == "allow":
        return ALLOW
    if rule == "kill":
        return KILL_PROCESS
    code: int = getattr(errno, rule)
    return ERRNO | code


_PR_SET_NO_NEW_PRIVS = 38
_SYSCALL_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1


_libc = ctypes.PyDLL(None)
_libc.__errno_location.restype = ctypes.POINTER(ctypes.c_int)


def _errno() -> int:
    number: int = _libc.__errno_location().contents.value
    return number


class _Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class Filter:
    """A built program, ready to install: all it takes is made here, once, so that a forked child touches few pages."""

    def __init__(self, program: bytes) -> None:
        self._program = _Program(len(program) // struct.calcsize("=HBBI"), program)
        self._prctl: Callable[..., int] = _libc.prctl
        self._syscall: Callable[..., int] = _libc.syscall
        self._no_new_privileges = (_PR_SET_NO_NEW_PRIVS, 1, *[ctypes.c_ulong(0)] * 3)
        number = _SYSCALL_SECCOMP[os.uname().machine]
        self._filter = (number, _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.byref(self._program))

    def for_rehearsal(self, nothing: Callable[..., int]) -> Filter:
        """Return a filter that is not one: to install it goes the same way, but calls `nothing`, which returns 0."""
        other = Filter(b"")
        other._prctl = other._syscall = nothing
        return other

    def install(self) -> None:
        """Put every thread of this process under the filter, for good. Raise OSError if that fails."""
        # SECURITY: a filter that isn't there must never go unnoticed; test_seccomp_kernel.py makes it fail.
        if self._prctl(*self._no_new_privileges) != 0:
            raise OSError(_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
        refused = self._syscall(*self._filter)
        if refused > 0:
            raise OSError(errno.ESRCH, f"seccomp: thread {refused} has a filter of its own")
        if refused < 0:
            raise OSError(_errno(), "seccomp(SECCOMP_SET_MODE_FILTER)")
