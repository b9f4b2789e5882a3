# ruff: noqa: E501 (programs)
"""E: the surface of the kernel. Which system calls a program may make, and with what arguments."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from sandbox_service.inside import seccomp
from sandbox_service.models import Result, Status
from tests.e2e.processes import pids
from tests.security import machine, mutations
from tests.security.cases import case, covers, prints, told
from tests.security.harness import Attacker
from tests.security.programs import KERNEL, NUMBERS

X86 = os.uname().machine == "x86_64"


@case(
    "E01 P25 P26",
    KERNEL
    + """
kinds = dict(time=0x80, mount=0x20000, cgroup=0x2000000, uts=0x4000000, ipc=0x8000000, user=0x10000000,
             pid=0x20000000, net=0x40000000)
for name, bit in kinds.items():
    print(name, in_child(ask, "unshare", bit), in_child(ask, "clone", bit | 17, 0, 0, 0, 0) if bit > 0xff else "")
print("parent", in_child(ask, "clone", 0x8000 | 17, 0, 0, 0, 0))
print("clone3", in_child(ask, "clone3", 0, 0), in_child(ask, "clone3", bytes(88), 88))
import threading
thread = threading.Thread(target=print, args=("a thread starts",))
thread.start()
thread.join()
""",
    without=mutations.NO_FILTERS,
    also_without=(mutations.NO_JAIL_FILTER, mutations.ONLY_THE_CALL_FILTER),
)
def test_no_namespace_can_be_made(result: Result) -> None:
    """No program makes a namespace or a child of the zygote, by unshare, clone or clone3; threads still start."""
    kinds = ("mount", "cgroup", "uts", "ipc", "user", "pid", "net")
    expected = "time 'EPERM' \n" + "".join(f"{kind} 'EPERM' 'EPERM'\n" for kind in kinds)
    prints(expected + "parent 'EPERM'\nclone3 'ENOSYS' 'ENOSYS'\na thread starts\n")(result)


MOUNTS = {
    "setns": (3, 0), "mount": (0, b"/tmp", b"tmpfs", 0, 0), "umount2": (b"/tmp", 2), "pivot_root": (b"/tmp", b"/tmp"),
    "chroot": (b"/tmp",), "fsopen": (b"tmpfs", 0), "fsmount": (0, 0, 0), "fspick": (-100, b"/", 0),
    "open_tree": (-100, b"/", 1), "move_mount": (0, 0, 0, 0, 0), "mount_setattr": (-100, b"/", 0, 0, 0),
    "statmount": (0, 0, 0, 0), "listmount": (0, 0, 0, 0), "name_to_handle_at": (-100, b"/", 0, 0, 0),
}  # fmt: skip


@case(
    "E02 P25",
    KERNEL
    + f"""
for name, arguments in {MOUNTS}.items():
    print(name, in_child(ask, name, *arguments))
spaces = os.open("/proc/self/ns", os.O_RDONLY)
print(*(in_child(ask, "setns", os.open(name, os.O_RDONLY, dir_fd=spaces), 0) for name in ("mnt", "net", "user")))
""",
    without=mutations.NO_FILTERS,
    also_without=(mutations.NO_JAIL_FILTER, mutations.ONLY_THE_CALL_FILTER),
)
def test_no_mount_and_no_change_of_namespaces(result: Result) -> None:
    """setns, mount, umount, pivot_root, chroot and the new mount calls are refused, whatever they are given."""
    prints("".join(f"{name} 'EPERM'\n" for name in MOUNTS) + "'EPERM' 'EPERM' 'EPERM'\n")(result)


@case(
    "E03 P24",
    KERNEL
    + """
print(*(in_child(ask, name, 1, bytes(120), 0, 0) for name in ("io_uring_setup", "io_uring_enter", "io_uring_register")))
""",
    without=mutations.NO_FILTERS,
    also_without=(
        mutations.NO_JAIL_FILTER,
        mutations.NO_CALL_FILTER,
        mutations.ONLY_THE_CALL_FILTER,
        mutations.ONLY_THE_JAIL_FILTER,
    ),
)
def test_io_uring_does_not_exist(result: Result) -> None:
    """io_uring, whose operations no filter sees, answers as a kernel that has none: libraries fall back."""
    prints("'ENOSYS' 'ENOSYS' 'ENOSYS'\n")(result)


DANGEROUS = ["bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key", "ptrace", "process_vm_readv",
             "process_vm_writev", "pidfd_getfd", "kcmp", "process_madvise", "splice", "tee", "vmsplice", "cachestat",
             "memfd_secret", "lookup_dcookie", "syslog", "acct", "settimeofday", "clock_settime"]  # fmt: skip


@case(
    "E04 A06 P14 P22 P23 P39",
    KERNEL
    + f"""
for name in {DANGEROUS}:
    print(name, in_child(ask, name, 0, 0, 0, 0, 0))
print(os.path.exists("/dev/userfaultfd"), os.path.exists("/dev/kvm"), os.path.exists("/dev/tty"))
""",
    without=mutations.NO_FILTERS,
    also_without=(
        mutations.NO_JAIL_FILTER,
        mutations.NO_CALL_FILTER,
        mutations.ONLY_THE_CALL_FILTER,
        mutations.ONLY_THE_JAIL_FILTER,
    ),
)
def test_calls_with_a_history_of_escapes_are_refused(result: Result) -> None:
    """bpf, perf, userfaultfd, keyrings, tracing and the page-cache calls answer EPERM, by either filter alone."""
    prints("".join(f"{name} 'EPERM'\n" for name in DANGEROUS) + "False False False\n")(result)


KILLING = [name for name in (
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff",
    "iopl", "ioperm", "open_by_handle_at", "uselib", "vhangup",
) if name in NUMBERS]  # fmt: skip


@case(
    "E05 P39",
    KERNEL + f"for name in {KILLING}: print(name, in_child(ask, name, 0, 0, 0, 0, 0))",
    without=mutations.NO_FILTERS,
    also_without=(
        mutations.NO_JAIL_FILTER,
        mutations.NO_CALL_FILTER,
        mutations.ONLY_THE_CALL_FILTER,
        mutations.ONLY_THE_JAIL_FILTER,
    ),
)
def test_what_no_library_ever_asks_for_ends_the_process(result: Result) -> None:
    """Modules, kexec, reboot, swap, ports and file handles: SIGSYS for the whole process, by either filter alone."""
    prints("".join(f"{name} SIGSYS\n" for name in KILLING))(result)


@covers("E05 P32")
async def test_the_call_that_ended_a_program_is_named(attacker: Attacker) -> None:
    """Where the kernel's log tells which system call ended a program, the Result does; never that of a child."""
    with kernel_log() as lines:
        code = f"{KERNEL}\nprint(in_child(ask, 'reboot', 0, 0, 0, 0), flush=True); ask('kexec_load', 0, 0, 0, 0)"
        for _ in range(4):
            result = await attacker.call(code)
            assert (result.status, result.signal, result.stdout) == (Status.SIGNALED, "SIGSYS", "SIGSYS\n")
            if not (said := result.message or "").startswith("as by"):
                assert said == "a system call that is not allowed: kexec_load"
                return
            await asyncio.sleep(5)
        # It keeps 10 records in 5 s, of all programs of the machine.
        if any("kauditd_printk_skb" in line for line in lines()):
            pytest.skip("others fill the kernel's log")
        raise AssertionError("it was not named, and no record was dropped")


@contextmanager
def kernel_log() -> Iterator[Callable[[], list[str]]]:
    """Give what returns the lines that have come since. Skip the test where a worker finds no records there."""
    if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":
        pytest.skip("pids in the kernel's log are not this container's")
    if any("/sbin/auditd" in machine.command_line(pid) for pid in pids()):
        pytest.skip("the audit daemon takes the records")
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        pytest.skip("no log of the kernel can be read here")
    os.lseek(log, 0, os.SEEK_END)

    def lines() -> list[str]:
        found = []
        with suppress(BlockingIOError):
            while True:
                with suppress(BrokenPipeError):
                    found.append(os.read(log, 8192).decode(errors="replace"))
        return found

    yield lines
    os.close(log)


@case(
    "E05 P32",
    KERNEL
    + """
print(in_child(ask, "reboot", 0, 0, 0, 0), flush=True)
libc.prctl(15, b"x sig=31 pid=1 ")
os.kill(os.getpid(), signal.SIGSYS)
""",
    status=Status.SIGNALED,
)
def test_no_call_is_named_that_did_not_end_the_program(result: Result) -> None:
    """A program that sends itself SIGSYS after a child of it was ended by a system call: no name, least the child's."""
    assert (result.signal, result.stdout) == ("SIGSYS", "SIGSYS\n"), told(result)
    assert (result.message or "").startswith("as by a system call"), told(result)


def has_kernel_log() -> bool:
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY))
    except OSError:
        return False
    in_first_namespace = os.readlink("/proc/self/ns/pid") == "pid:[4026531836]"
    return in_first_namespace and not any("/sbin/auditd" in machine.command_line(pid) for pid in pids())


RAW_CODE = (
    KERNEL
    + """
import mmap
def run(code):
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print(in_child(run, b"\\xb8\\x2a\\x00\\x00\\x00\\xc3"))  # mov eax, 42; ret
print(in_child(run, b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3"))  # getpid by int 0x80
print(in_child(run, b"\\xb8\\x27\\x00\\x00\\x40\\x0f\\x05\\xc3"))  # getpid by its x32 number
"""
)


@pytest.mark.skipif(not X86, reason="machine code of x86_64")
@case("E06 P28", RAW_CODE, without=mutations.NO_FILTERS)
def test_no_way_around_the_table_by_another_architecture(result: Result) -> None:
    """Own machine code runs, but a 32-bit call (int 0x80) or an x32 number ends the process."""
    prints("42\nSIGSYS\nSIGSYS\n")(result)


@case(
    "E08 P22 P27",
    KERNEL
    + """
import collections
seen = collections.defaultdict(set)
for high in (0, 1 << 32, 1 << 63):
    for family in range(47):
        for kind in range(1, 11):
            answer = ask("socket", family | high, kind, 0)
            if isinstance(answer, int): os.close(answer); answer = "allowed"
            seen[family].add(answer)
print("families that exist", sorted(family for family, answers in seen.items() if answers != {"EAFNOSUPPORT"}))
print("unix", sorted(seen[1]))
pair = (ctypes.c_int * 2)()
print("pairs", [ask("socketpair", family, 1, 0, pair) for family in (2, 10, 16, 38, 40)], ask("socketpair", 1, 1, 0, pair))
""",
    without=mutations.SOCKETS_OF_ALL_FAMILIES,
)
def test_the_only_socket_family_is_unix(result: Result) -> None:
    """Of all families and types only AF_UNIX exists, also when the unused half of the argument is set."""
    refused = ["EAFNOSUPPORT"] * 5
    prints(f"families that exist [1]\nunix ['ESOCKTNOSUPPORT', 'allowed']\npairs {refused} 0\n")(result)


@case(
    "E08 P22",
    KERNEL
    + """
answers = {}
for family in range(47):
    for kind in range(1, 11):
        for protocol in (0, 1, 6, 17, 58, 132, 255):
            answer = ask("socket", family, kind, protocol)
            if isinstance(answer, int):
                os.close(answer)
                answers.setdefault(family, set()).add((kind, protocol))
print({family: sorted(made) for family, made in answers.items()})
print([ask("socket", 2, kind, protocol) for kind, protocol in ((2, 1), (3, 1), (3, 255), (1, 132))])
""",
    without=mutations.LOOPBACK_WITHOUT_CHECKS,
    network="loopback",
)
def test_the_loopback_tier_has_tcp_and_udp_only(result: Result) -> None:
    """With `network: loopback`: TCP and UDP over IPv4 and IPv6, no raw, ICMP or SCTP socket, no further family."""
    inet = [(1, 0), (1, 6), (2, 0), (2, 17)]
    unix = [(kind, protocol) for kind in (1, 2, 3, 5) for protocol in (0, 1)]
    refused = ["EAFNOSUPPORT"] * 4  # by the filter: the kernel would say that the user may not
    prints(f"{ {1: unix, 2: inet, 10: inet} }\n{refused}\n")(result)


@case(
    "E04 P27 P39",
    KERNEL
    + """
import socket
one, other = socket.socketpair()
takes_all = ctypes.create_string_buffer(b"\\x06\\0\\0\\0\\xff\\xff\\xff\\xff", 8)
program = bytes((ctypes.c_ulong * 2)(1, ctypes.addressof(takes_all)))
for option in (26, 26 | 1 << 32, 50, 51, 52):  # one filter at most: thousands are what this is about
    print(ask("setsockopt", one.fileno(), 1, option, program, len(program)))
print(ask("seccomp", 1, 0, program), libc.prctl(22, 2, program))
print(one.send(b"still an ordinary socket"), other.recv(99))
""",
    without=mutations.FILTERS_ON_SOCKETS,
    also_without=(mutations.OPTIONS_OF_ALL_KINDS, mutations.NO_JAIL_FILTER),
)
def test_no_filter_is_put_on_a_socket(result: Result) -> None:
    """A program has no way to memory for compiled filters, which the kernel neither counts nor bounds."""
    refused = "ENOPROTOOPT\n" * 5
    prints(f"{refused}EPERM -1\n24 b'still an ordinary socket'\n")(result)


@case(
    "E08 P27",
    KERNEL
    + """
import socket
def options(family, level):
    with socket.socket(family) as one:
        return [option for option in range(256) if attempt(one.getsockopt, level, option, 64) != "ENOPROTOOPT"]
print(options(socket.AF_UNIX, 1))
print(options(socket.AF_INET, 6))
print(options(socket.AF_INET6, 41))
with socket.socket() as one:
    print(attempt(one.setsockopt, 6, 31, b"tls"), attempt(one.setsockopt, 0, 64, b""), attempt(one.setsockopt, 17, 100, 1))
""",
    without=mutations.OPTIONS_OF_ALL_KINDS_WITH_LOOPBACK,
    network="loopback",
)
def test_sockets_have_the_options_that_programs_need(result: Result) -> None:
    """Of several hundred options some sixty exist: no TLS in the kernel, no packet filter's tables, no tunnels."""
    common = [*range(2, 11), 12, 13, *range(15, 22), 30, 38, 39, 66, 67]
    tcp, ipv6 = [*range(1, 13), 18, 25], [16, 17, 18, 19, 25, 26, 67]
    refused = ["ENOPROTOOPT"] * 3
    prints(f"{common}\n{tcp}\n{ipv6}\n{' '.join(refused)}\n")(result)


SWEEP = (
    KERNEL
    + """
# What would wait, end the process or change it under our feet is answered by the kernel in no useful way.
skipped = {numbers.get(name) for name in ("exit", "exit_group", "fork", "vfork", "clone", "rt_sigreturn", "execve",
           "restart_syscall", "pause", "rt_sigsuspend", "close_range", "map_shadow_stack")}
import collections
def sweep(start, end):
    libc.alarm(30)
    answers = {}
    for number in range(start, end):
        if number in skipped: continue
        pid = os.fork()
        if pid == 0:
            signal.alarm(1)
            for descriptor in range(3): os.close(descriptor)
            result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(0)] * 6)
            os._exit(ctypes.get_errno() if result == -1 else 0)
        status = os.waitpid(pid, 0)[1]
        answers[number] = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return answers
answers = sweep(0, 1024)
import json
print(json.dumps(answers))
"""
)


def _expected_of(number: int, rules: dict[int, str]) -> set[str]:
    """What the sweep may see for a number: a name of an errno, `SIGSYS`, or `any` where the kernel decides."""
    import errno

    rule = rules.get(number, "ENOSYS")
    if rule == "kill":
        return {"SIGSYS"}
    if rule in errno.errorcode.values():
        return {rule}
    return {"any"}


@case("E18 P26", SWEEP, without=mutations.NO_CALL_FILTER, limits={"wall_s": 40, "cpu_s": 30, "output_kb": 512})
def test_every_number_is_answered_as_the_table_says(result: Result) -> None:
    """All numbers from 0 to 1023, with empty arguments: refused as listed, unknown ones ENOSYS, no other SIGSYS."""
    import errno
    import json

    rules = seccomp.read_table(os.uname().machine)
    # uretprobe and uprobe of x86_64: new kernels let them pass all filters, and refuse them outside of their trampoline.
    passing = {335, 336} if X86 else set()
    wrong = []
    for text, answer in json.loads(result.stdout).items():
        number = int(text)
        if number in passing:
            continue
        seen = "SIGSYS" if answer == -31 else errno.errorcode.get(answer, "none")
        expected = _expected_of(number, rules)
        if expected == {"any"}:
            if seen in ("SIGSYS", "ENOSYS"):
                wrong.append((number, seen, "allowed"))
        elif seen not in expected:
            wrong.append((number, seen, *expected))
    assert wrong == [], wrong


@case(
    "E04 P27",
    KERNEL
    + """
import fcntl, termios
pair = os.pipe()
def ioctl(request, *rest): return ask("ioctl", pair[0], request, *(rest or (bytes(64),)))
print([ioctl(request) for request in (0x5412, 0x541C, 0x5412 | 1 << 32, 0x541C | 0xFF << 40, 0x40049409, 0xC020660B)])
print(ioctl(termios.FIONREAD), ioctl(termios.FIONREAD | 1 << 32))
print([ask("fcntl", pair[1], command, value) for command, value in ((1031, 1 << 20), (1031 | 1 << 32, 1 << 20), (1024, 0), (1026, 1))])
print(ask("personality", 0x0040000), ask("mknodat", -100, b"/tmp/null", 0o20666, 0x103))
segment = ask("shmget", 0, 4096, 0o1600)
print([ask("shmctl", segment, command, 0) for command in (11, 12, 11 | 1 << 32)], ask("shmget", 0, 1 << 21, 0o5600))
print([ask("fadvise64", -1, 0, 0, advice) for advice in (0, 1, 2, 3, 5, 4, 4 | 1 << 32)])
""",
    without=mutations.NO_CALL_FILTER,
)
def test_arguments_are_compared_in_the_bits_that_the_kernel_takes(result: Result) -> None:
    """TIOCSTI, TIOCLINUX, clones of files, big pipes, leases, devices, locked segments: refused, with high bits set as
    well; advice to forget a file does nothing."""
    enotty, eperm = ["ENOTTY"] * 6, ["EPERM"] * 4
    advice = ["EBADF"] * 5 + [0, 0]
    prints(f"{enotty}\n0 0\n{eperm}\nEPERM EPERM\n{['EPERM'] * 3} ENOMEM\n{advice}\n")(result)
