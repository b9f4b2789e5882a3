"""How long threads were ready to run and had no CPU, where the kernel counts it (schedstat, proc(5))."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def is_counted() -> bool:
    """Whether this kernel counts it: then this thread, which is running, has had a time slice at the least."""
    try:
        return Path("/proc/thread-self/schedstat").read_text().split()[2] != "0"
    except (OSError, IndexError):
        return False


def run_delay_s(thread: int) -> float:
    """Seconds for which a thread waited for a CPU; 0 if it is gone or the kernel does not tell."""
    try:
        return int(Path(f"/proc/{thread}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
