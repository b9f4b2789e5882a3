"""How fast the machine is: the CPU time that a fixed piece of work takes, again and again.

In a virtual machine the neighbours on the same hardware make everything slower, and no count of busy or stolen time
tells. Two figures from times at which it was not equally fast do not compare.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

_MOST = 1.1
_PAUSE_S = 0.25
_ROUNDS = 20_000


@dataclass
class Pace:
    """The mean of samples over a measurement: single ones differ by what else runs on the same core."""

    _total_s: float = 0.0
    _samples: int = 0
    _next: float = 0.0

    def sample(self) -> None:
        """Do the work, half a millisecond, unless that was done just now."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _PAUSE_S
        begun = time.thread_time()
        for _ in range(_ROUNDS):
            pass
        self._total_s += time.thread_time() - begun
        self._samples += 1

    @property
    def work_ms(self) -> float:
        return 1000 * self._total_s / max(1, self._samples)


def is_alike(first: float, second: float) -> bool:
    """Tell whether the machine was as fast at one time as at another, by times or rates of the same work."""
    return max(first, second) < _MOST * min(first, second)
