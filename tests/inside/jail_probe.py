"""Run by /usr/bin/python3 as the jail's root: asks for one thing after the other, prints the answers as JSON.

An answer is 0, or the errno; minus a signal's number if the asking ended the process.
"""

import ctypes
import errno
import json
import os
import socket

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
NEWUSER, NEWNS, NEWPID, NEWNET, PRIVATE = 0x10000000, 0x20000, 0x20000000, 0x40000000, 0x44000


def raw(number, *arguments):
    if LIBC.syscall(ctypes.c_long(number), *[ctypes.c_long(argument) for argument in arguments]) == -1:
        raise OSError(ctypes.get_errno(), "")


def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result


def in_child(probe):
    """Every probe has a process of its own, so that none is under another's namespaces or filter."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            probe()
        except OSError as error:
            code = error.errno
        os._exit(code)
    _, status = os.waitpid(pid, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def namespaces():
    """What a slot's init and a forked child do."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    checked(LIBC.unshare(NEWNS | NEWNET))
    checked(LIBC.setns(home, NEWNET))
    checked(LIBC.mount(b"none", b"/", None, ctypes.c_ulong(PRIVATE), None))
    checked(LIBC.mount(b"tmpfs", b"/tmp", b"tmpfs", ctypes.c_ulong(6), b"size=1m"))
    checked(LIBC.umount2(b"/tmp", 2))
    checked(LIBC.unshare(NEWPID))
    child = os.fork()
    if child == 0:
        checked(LIBC.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(14), None))
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise OSError(errno.ECHILD, "")
    os.setgroups([])
    os.setresgid(1000, 1000, 1000)
    os.setresuid(1000, 1000, 1000)


def clone_into_namespaces():
    child = LIBC.syscall(ctypes.c_long(56), ctypes.c_long(NEWNS | NEWPID | 17), *[ctypes.c_long(0)] * 4)
    if child == 0:
        os._exit(0)
    os.waitpid(checked(child), 0)


def own_filter():
    """A filter that allows everything, as the tight one is installed."""
    program = ctypes.create_string_buffer(b"\x06\x00\x00\x00\x00\x00\xff\x7f", 8)
    header = (ctypes.c_ulong * 2)(1, ctypes.addressof(program))
    raw(317, 1, 1, ctypes.addressof(header))


def filter_on_a_socket(option):
    """One, of the single instruction that takes everything. Never make many."""
    program = ctypes.create_string_buffer(b"\x06\x00\x00\x00\xff\xff\xff\xff", 8)
    header = (ctypes.c_ulong * 2)(1, ctypes.addressof(program))
    with socket.socket(socket.AF_UNIX) as unix:
        unix.setsockopt(socket.SOL_SOCKET, option, bytes(header))


def no_new_privileges():
    """nsjail only warns if it could not set this."""
    if LIBC.prctl(39, 0, 0, 0, 0) != 1:
        raise OSError(errno.EPERM, "")


PROBES = {
    "namespaces and mounts": namespaces,
    "clone into namespaces": clone_into_namespaces,
    "a filter on top": own_filter,
    "no new privileges": no_new_privileges,
    "AF_UNIX": lambda: socket.socket(socket.AF_UNIX),
    "AF_INET": lambda: socket.socket(socket.AF_INET),
    "SO_REUSEADDR": lambda: socket.socket(socket.AF_UNIX).setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
    "SO_ATTACH_FILTER": lambda: filter_on_a_socket(26),
    "SO_ATTACH_FILTER with a high bit": lambda: raw(54, -1, 1, 26 | 1 << 32, 0, 0),
    "SO_ATTACH_BPF": lambda: raw(54, -1, 1, 50, 0, 0),
    "SO_ATTACH_REUSEPORT_CBPF": lambda: raw(54, -1, 1, 51, 0, 0),
    "SO_ATTACH_REUSEPORT_EBPF": lambda: raw(54, -1, 1, 52, 0, 0),
    "clone3": lambda: raw(435, 0, 0),
    "bpf": lambda: raw(321, 0, 0, 0),
    "perf_event_open": lambda: raw(298, 0, 0, -1, -1, 0),
    "userfaultfd": lambda: raw(323, 0),
    "keyctl": lambda: raw(250, 0, -3, 0),
    "add_key": lambda: raw(248, 0, 0, 0, 0, 0),
    "ptrace": lambda: raw(101, 0, 0, 0, 0),
    "process_vm_readv": lambda: raw(310, os.getpid(), 0, 0, 0, 0, 0),
    "splice": lambda: raw(275, 0, 0, 1, 0, 1, 0),
    "open_tree": lambda: raw(428, -100, 0, 0),
    "AF_ALG": lambda: raw(41, 38, 5, 0),
    "AF_ALG with a high bit": lambda: raw(41, 38 | 1 << 32, 5, 0),
    "AF_VSOCK": lambda: raw(41, 40, 1, 0),
    "AF_RXRPC": lambda: raw(41, 33, 2, 0),
    "AF_KEY": lambda: raw(41, 15, 3, 2),
    "NETLINK_XFRM": lambda: raw(41, 16, 3, 6),
    "AF_PACKET": lambda: raw(41, 17, 3, 0),
    "io_uring_setup": lambda: raw(425, 1, 0),
    "a call of the future": lambda: raw(1000),
    "x32 getpid": lambda: raw(39 | 0x40000000),
    "kexec_load": lambda: raw(246, 0, 0, 0, 0),
    "finit_module": lambda: raw(313, -1, 0, 0),
}

print(json.dumps({name: in_child(probe) for name, probe in PROBES.items()}))
