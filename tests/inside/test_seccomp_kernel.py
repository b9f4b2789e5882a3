"""The filter on the real kernel: what a program gets from refused calls, and that ordinary programs notice nothing.

Each probe runs in a throwaway child that installs the filter last, as a forked execution does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib.util
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox_service.inside import seccomp

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of the probes are x86_64's")

PROGRAMS = Path(__file__).with_name("seccomp_programs")
DEFAULT = seccomp.Filter(seccomp.build())
LOOPBACK = seccomp.Filter(seccomp.build(loopback=True))

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long


def in_child(probe: Callable[[], int], filter_: seccomp.Filter = DEFAULT) -> tuple[int, int]:
    """What `probe` returned under the filter (0 if it never did), and the child's raw wait status."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            filter_.install()
            os.write(writer, struct.pack("q", probe()))
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 8)
    os.close(reader)
    _, status = os.waitpid(pid, 0)
    return (struct.unpack("q", answer)[0] if answer else 0), status


def system_call(number: int, *arguments: int) -> Callable[[], int]:
    """A probe that returns minus the errno, as the kernel does, or what the call gave."""

    def probe() -> int:
        result = LIBC.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments])
        return -ctypes.get_errno() if result == -1 else int(result)

    return probe


def answer(number: int, *arguments: int, filter_: seccomp.Filter = DEFAULT) -> int:
    result, status = in_child(system_call(number, *arguments), filter_)
    assert status == 0, f"system call {number} ended the process: wait status {status}"
    return result


TIOCSTI, TIOCLINUX = 0x5412, 0x541C
SIGCHLD, CLONE_NEWUSER, CLONE_PARENT = 17, 0x10000000, 0x8000
# Level and option.
REFUSED_OPTIONS = {
    "SO_ATTACH_FILTER": (1, 26),
    "SO_ATTACH_FILTER with a high bit": (1, 26 | 1 << 32),
    "SO_ATTACH_BPF": (1, 50),
    "SO_ATTACH_REUSEPORT_CBPF": (1, 51),
    "SO_ATTACH_REUSEPORT_EBPF": (1, 52),
    "SO_DETACH_FILTER": (1, 27),
    "SO_ZEROCOPY": (1, 60),
    "TCP_ULP": (6, 31),
    "IPT_SO_SET_REPLACE": (0, 64),
    "UDP_ENCAP": (17, 100),
}


@pytest.mark.parametrize(
    ("name", "call", "refusal"),
    [
        ("unshare a user namespace", (272, CLONE_NEWUSER), errno.EPERM),
        ("unshare nothing", (272, 0), errno.EPERM),
        ("setns", (308, 0, 0), errno.EPERM),
        ("clone into a user namespace", (56, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), errno.EPERM),
        ("clone a sibling", (56, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0), errno.EPERM),
        ("clone3", (435, 0, 0), errno.ENOSYS),
        ("io_uring_setup", (425, 1, 0), errno.ENOSYS),
        ("a call of the future", (1000,), errno.ENOSYS),
        ("keyctl", (250, 0, 0), errno.EPERM),
        ("add_key", (248, 0, 0, 0, 0, 0), errno.EPERM),
        ("ptrace", (101, 0, 0, 0, 0), errno.EPERM),
        ("process_vm_readv", (310, 1, 0, 0, 0, 0, 0), errno.EPERM),
        ("pidfd_getfd", (438, 0, 0, 0), errno.EPERM),
        ("bpf", (321, 0, 0, 0), errno.EPERM),
        ("perf_event_open", (298, 0, 0, -1, -1, 0), errno.EPERM),
        ("userfaultfd", (323, 0), errno.EPERM),
        ("mount", (165, 0, 0, 0, 0, 0), errno.EPERM),
        ("splice", (275, 0, 0, 1, 0, 1, 0), errno.EPERM),
        ("sendfile", (40, 1, 0, 0, 1), errno.ENOSYS),
        ("capset", (126, 0, 0), errno.EPERM),
        ("setgroups", (116, 0, 0), errno.EPERM),
        ("seccomp", (317, 1, 0, 0), errno.EPERM),
        ("prctl(PR_SET_DUMPABLE)", (157, 4, 1, 0, 0, 0), errno.EPERM),
        ("prctl(PR_SET_SECCOMP)", (157, 22, 2, 0, 0, 0), errno.EPERM),
        ("prctl with a high bit", (157, 4 | 1 << 32, 1, 0, 0, 0), errno.EPERM),
        ("ioctl(TIOCSTI)", (16, 0, TIOCSTI, 0), errno.ENOTTY),
        ("tiocsti_hi(10063)", (16, 0, TIOCSTI | 1 << 32, 0), errno.ENOTTY),
        ("tioclinux(28100)", (16, 0, TIOCLINUX | 1 << 63, 0), errno.ENOTTY),
        ("mknod of a device", (133, 0, 0o20666, 0x103), errno.EPERM),
        ("personality(ADDR_NO_RANDOMIZE)", (135, 0x40000), errno.EPERM),
        ("mmap(MAP_HUGETLB)", (9, 0, 1 << 21, 3, 0x40022, -1, 0), errno.ENOMEM),
        ("shmget(SHM_HUGETLB)", (29, 0, 1 << 21, 0o5600), errno.ENOMEM),
        ("shmctl(SHM_LOCK)", (31, 0, 11, 0), errno.EPERM),
        ("shmctl(SHM_LOCK) with a high bit", (31, 0, 11 | 1 << 32, 0), errno.EPERM),
        ("afalg(31431)", (41, 38, 5, 0), errno.EAFNOSUPPORT),
        ("rxrpc(43500)", (41, 33, 2, 0), errno.EAFNOSUPPORT),
        ("vsock", (41, 40, 1, 0), errno.EAFNOSUPPORT),
        ("netlink", (41, 16, 3, 0), errno.EAFNOSUPPORT),
        ("packet", (41, 17, 3, 0), errno.EAFNOSUPPORT),
        # On no descriptor at all: without the check the answer would be EBADF.
        *((f"setsockopt({name})", (54, -1, *pair, 0, 0), errno.ENOPROTOOPT) for name, pair in REFUSED_OPTIONS.items()),
        ("getsockopt(SO_GET_FILTER)", (55, -1, 1, 26, 0, 0), errno.ENOPROTOOPT),
    ],
)
def test_refused(name: str, call: tuple[int, ...], refusal: int) -> None:
    """The exact errno, not just a failure: libraries choose their fallback by it; same in the loopback tier."""
    for filter_ in (DEFAULT, LOOPBACK):
        assert errno.errorcode[-answer(*call, filter_=filter_)] == errno.errorcode[refusal], name


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("kexec_load", (246, 0, 0, 0, 0)),
        ("finit_module", (313, -1, 0, 0)),
        ("open_by_handle_at", (304, -1, 0, 0)),
        ("x32 getpid", (39 | 0x40000000,)),
        ("x32 beyond every table", (0x7FFFFFFF,)),
    ],
)
def test_ends_the_process(name: str, call: tuple[int, ...]) -> None:
    """The whole process dies of SIGSYS, also when another of its threads asked."""
    _, status = in_child(system_call(*call))
    assert os.WIFSIGNALED(status), name
    assert os.WTERMSIG(status) == signal.SIGSYS

    def from_a_thread() -> int:
        thread = threading.Thread(target=system_call(*call))
        thread.start()
        thread.join()
        return 0

    _, status = in_child(from_a_thread)
    assert os.WIFSIGNALED(status), name
    assert os.WTERMSIG(status) == signal.SIGSYS


def test_a_32_bit_call_ends_the_process() -> None:
    """`int 0x80` reaches the 32-bit table, whose numbers mean other calls (20 is getpid there)."""
    code = b"\xb8\x14\x00\x00\x00\xcd\x80\xc3"  # mov eax, 20; int 0x80; ret

    def probe() -> int:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())

    assert in_child(probe) == (0, signal.SIGSYS)


def test_allowed() -> None:
    """Plain calls, threads though clone3 is refused, and the sockets that each tier has."""

    def probe() -> int:
        assert os.getpid() == LIBC.getpid()
        started = threading.Thread(target=os.getppid)
        started.start()
        started.join()
        left, right = socket.socketpair()
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        left.settimeout(1)
        assert right.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        left.send(b"x")
        assert right.recv(1) == b"x"
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).close()
        return 1

    assert in_child(probe) == (1, 0)
    assert in_child(probe, LOOPBACK) == (1, 0)
    assert answer(41, socket.AF_INET, socket.SOCK_STREAM, 0) == -errno.EAFNOSUPPORT
    assert answer(41, socket.AF_INET6, socket.SOCK_DGRAM, 0) == -errno.EAFNOSUPPORT
    assert answer(41, socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 6, filter_=LOOPBACK) >= 0
    assert answer(41, socket.AF_INET, socket.SOCK_RAW, 1, filter_=LOOPBACK) == -errno.EAFNOSUPPORT
    assert answer(41, socket.AF_INET, socket.SOCK_DGRAM, 1, filter_=LOOPBACK) == -errno.EAFNOSUPPORT


def test_installing_covers_threads_that_run_already() -> None:
    """TSYNC: a thread started before the filter is under it too."""
    go, answers = threading.Event(), list[int]()

    def thread_body() -> None:
        go.wait()
        answers.append(system_call(272, 0)())

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        thread = threading.Thread(target=thread_body)
        thread.start()
        DEFAULT.install()
        go.set()
        thread.join()
        os.write(writer, struct.pack("q", answers[0]))
        os._exit(0)
    os.close(writer)
    assert struct.unpack("q", os.read(reader, 8)) == (-errno.EPERM,)
    os.close(reader)
    os.waitpid(pid, 0)


def test_a_filter_that_the_kernel_refuses_is_an_error() -> None:
    """Never a silent pass: an invalid program, and a process that may no longer install one, raise OSError."""

    def errno_of_install(filter_: seccomp.Filter) -> Callable[[], int]:
        def probe() -> int:
            try:
                filter_.install()
            except OSError as error:
                return error.errno or 0
            return 0

        return probe

    falls_off_the_end = seccomp.Filter(struct.pack("=HBBI", seccomp.LOAD, 0, 0, 0))
    allow_all = seccomp.Filter(struct.pack("=HBBI", seccomp.RETURN, 0, 0, seccomp.ALLOW))
    assert in_child(errno_of_install(falls_off_the_end), allow_all) == (errno.EINVAL, 0)
    assert in_child(errno_of_install(DEFAULT)) == (errno.EPERM, 0)


@pytest.mark.parametrize("program", sorted(path.name for path in PROGRAMS.glob("*.py")))
@pytest.mark.parametrize("filter_", [DEFAULT, LOOPBACK], ids=["default", "loopback"])
def test_an_ordinary_program_notices_nothing(program: str, filter_: seccomp.Filter, tmp_path: Path) -> None:
    """Programs that use what the standard library and numpy ask of the kernel end well under the filter."""
    if program == "arrays.py" and importlib.util.find_spec("numpy") is None:
        pytest.skip("numpy is not installed here")
    finished = subprocess.run(
        [sys.executable, "-I", PROGRAMS / program],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        preexec_fn=filter_.install,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (finished.returncode, finished.stderr, finished.stdout) == (0, "", "good\n")
