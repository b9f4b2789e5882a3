"""How fast the machine is: the CPU time that a fixed piece of work takes, again and again.

In a virtual machine the neighbours on the same hardware make everything slower, and no count of busy or stolen time
tells. Figures from such a time compare with nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

MOST = 1.3
"""A measurement is valid while its slowest times take less than so many times as long as its fastest."""
_PAUSE_S, _WINDOW_S = 0.25, 5.0
_FEWEST = 5
_ROUNDS = 20_000


@dataclass
class Pace:
    """Samples by windows of time: single ones differ by chance, and by what else runs on the same core."""

    _windows: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
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
        self._windows[int(now / _WINDOW_S)].append(time.thread_time() - begun)

    @property
    def spread(self) -> float:
        """The work's time in the slowest window, of that in the fastest one; 1.0 where there are less than two."""
        means = [sum(each) / len(each) for each in self._windows.values() if len(each) >= _FEWEST]
        return max(means) / min(means) if means else 1.0
