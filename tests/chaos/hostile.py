"""Calls that mean harm, cheap enough to be sent ten thousand times, each with what may become of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox_service.client import Call, Limits


@dataclass(frozen=True)
class Hostile:
    name: str
    code: str
    may_end: frozenset[str]
    limits: Limits = field(default_factory=Limits)

    def call(self) -> Call:
        return Call(code=self.code, limits=self.limits, timeout_s=300)


def _of(name: str, may_end: str, code: str, **limits: float) -> Hostile:
    bounds = {"wall_s": 5.0, "cpu_s": 2.0, "memory_mb": 32, "processes": 16, "disk_mb": 4, "output_kb": 1} | limits
    return Hostile(name, code, frozenset(may_end.split()), Limits.model_validate(bounds))


HOSTILE = (
    _of("fork bomb", "failed signaled timed_out", "import os\nwhile True: os.fork()", wall_s=0.1),
    _of("strays", "ok", "import os, time\nfor _ in range(8):\n    if os.fork() == 0: os.setsid(); time.sleep(600)"),
    _of("memory", "out_of_memory", "x = b'x' * (100 << 20)"),
    _of("memory in many processes", "ok out_of_memory signaled failed",
        "import os\nfor _ in range(4):\n    if os.fork() == 0: x = b'x' * (20 << 20); os._exit(0)\n"
        "for _ in range(4): os.wait()"),
    _of("flood", "output_limit", "import os\nwhile True: os.write(1, b'x' * 65536)"),
    _of("two floods", "output_limit", "import os\nif os.fork():\n    while True: os.write(2, b'x' * 65536)\n"
        "while True: os.write(1, b'x' * 65536)"),
    _of("kill itself", "signaled", "import os\nos.kill(os.getpid(), 9)"),
    _of("kill all", "failed signaled", "import os\nos.kill(-1, 9)"),
    _of("kill its init", "failed", "import os\nos.kill(1, 9)"),
    _of("fill /tmp", "failed", "f = open('/tmp/fill', 'wb')\nwhile True: f.write(b'x' * 65536); f.flush()"),
    _of("many files", "ok failed", "for n in range(4000): open(f'/tmp/{n}', 'w').close()"),
    _of("fill /dev/shm", "failed out_of_memory",
        "f = open('/dev/shm/fill', 'wb')\nwhile True: f.write(b'x' * 65536); f.flush()"),
    _of("sleep for ever", "timed_out", "import time\ntime.sleep(600)", wall_s=0.1),
    _of("spin", "timed_out", "while True: pass", cpu_s=0.05),
    _of("segfault", "signaled", "import ctypes\nctypes.string_at(0)"),
    _of("forbidden system call", "signaled", "import ctypes\nctypes.CDLL(None).syscall(175, 0, 0, 0, 0)"),
    _of("sockets in flight", "ok",
        "import socket\nfor _ in range(20):\n    a, b = socket.socketpair()\n"
        "    socket.send_fds(a, [b'x'], [a.fileno(), b.fileno()])\n    socket.send_fds(b, [b'x'], [a.fileno()])"),
    _of("shared memory left behind", "ok failed",
        "from multiprocessing import shared_memory, resource_tracker\n"
        "s = shared_memory.SharedMemory(create=True, size=1 << 20)\nimport os\nos._exit(0)"),
    _of("pipes and files open", "ok failed", "import os\nkept = [os.pipe() for _ in range(400)]"),
    _of("ignores signals", "timed_out",
        "import signal, time\nfor n in range(1, 32):\n    if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\n"
        "time.sleep(600)", wall_s=0.1),
)  # fmt: skip
