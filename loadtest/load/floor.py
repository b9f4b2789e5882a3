"""The floor: what it costs to fork the warm image inside its jail, end the child at once, and reap it.

Runs in the jail in place of the zygote, after the same preparation: `python -m floor` with the same configuration.
Answers one JSON object for each number that comes over the control socket.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import time

from sandbox_service.inside import linux, zygote

_exit = os._exit


def measure(self: zygote.Zygote) -> None:
    """Fork for each byte-string that comes over the control socket, as often as it says; answer what it took."""
    self.control.send(b"ready")
    while request := self.control.recv(16):
        forks = int(request)
        gc.collect()
        before, before_self = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
        begun = time.monotonic()
        for _ in range(forks):
            pid = linux.fork()
            if pid == 0:
                _exit(0)
            os.waitpid(pid, 0)
        wall_s = time.monotonic() - begun
        after, after_self = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = sum(
            getattr(now, kind) - getattr(then, kind)
            for now, then in ((after, before), (after_self, before_self))
            for kind in ("ru_utime", "ru_stime")
        )
        answer = {"wall_s": wall_s, "cpu_s": cpu_s, "child_faults": after.ru_minflt - before.ru_minflt}
        self.control.send(json.dumps(answer).encode())
    _exit(0)


if __name__ == "__main__":
    zygote.Zygote.serve = measure  # type: ignore[method-assign]
    zygote.main()
