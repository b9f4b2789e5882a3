"""A zygote without a jail: forks children that call the runner, one at a time, for tests and measurements.

Started as `python -m tests.inside.zygote_for_tests CONFIG` (JSON: modules, warm_up) in a mount namespace of its own.
Standard input holds marshalled requests (a job, its standard input), standard output the answers (raw wait status,
stdout, stderr, minor page faults). Each program gets a fresh file system on /tmp/work.
"""

from __future__ import annotations

if __name__ == "__main__":  # as the real one does
    from sandbox_service.inside import heap

    heap.gather()

import ctypes
import json
import marshal
import os
import selectors
import signal
import sys
import time

from sandbox_service.inside import runner

_libc = ctypes.PyDLL(None, use_errno=True)
_exit = os._exit
_WORK = b"/tmp/work"
_PATIENCE_S = 30


def _must(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _pipe_with(content: bytes) -> int:
    descriptor = os.memfd_create("stdin")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _child(job: runner.Job, stdin: bytes, stdout: int, stderr: int) -> None:
    os.setsid()
    os.chdir(_WORK)
    os.dup2(_pipe_with(stdin) if stdin else os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, 100)
    try:
        runner.run(job, lambda: None)
    except BaseException as error:
        os.write(2, f"the runner itself failed: {error!r}".encode())
    finally:
        _exit(99)


def _run(job: runner.Job, stdin: bytes) -> tuple[int, bytes, bytes, int]:
    _must(_libc.umount2(_WORK, 2))
    _must(_libc.mount(b"none", _WORK, b"tmpfs", 0, b"size=64m"))
    out, err = os.pipe(), os.pipe()
    pid = _libc.fork()
    if pid == 0:
        _child(job, stdin, out[1], err[1])
    os.close(out[1])
    os.close(err[1])
    output = {out[0]: bytearray(), err[0]: bytearray()}
    deadline = time.monotonic() + _PATIENCE_S
    usage = None
    status = 0
    with selectors.DefaultSelector() as selector:
        for descriptor in output:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(0.2):
                if piece := os.read(key.fd, 65536):
                    output[key.fd] += piece
                else:
                    selector.unregister(key.fd)
            if usage is None:
                done, status, usage_now = os.wait4(pid, os.WNOHANG)
                if done:
                    usage = usage_now
                    deadline = min(deadline, time.monotonic() + 1)  # a grandchild may still hold the pipes
    if usage is None:
        if time.monotonic() >= deadline:
            os.killpg(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
    for descriptor in output:
        os.close(descriptor)
    return status, bytes(output[out[0]]), bytes(output[err[0]]), usage.ru_minflt


def main() -> None:
    config = json.loads(sys.argv[1])
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    _must(_libc.mount(b"none", _WORK, b"tmpfs", 0, None))
    runner.prepare(config["modules"], config["warm_up"])
    for name in [name for name in sys.modules if name.split(".")[0] in ("sandbox_service", "tests")]:
        del sys.modules[name]
    while True:
        try:
            job, stdin = marshal.load(requests)
        except EOFError:
            return
        answers.write(marshal.dumps(_run(job, stdin)))
        answers.flush()


if __name__ == "__main__":
    main()
