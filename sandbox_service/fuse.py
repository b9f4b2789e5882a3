"""A timer that a busy event loop does not set off.

A loop that computes for seconds finds, when it comes back, both a timer that is due and the bytes that came in time to
stop it; and it runs the timer first. So a fuse that has burnt down looks again after the loop has read what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_S = 0.1
LOOKS = 2
"""Between two looks the loop reads at least once; a stream's reader hears of it a turn later, hence two."""


class Fuse:
    """Calls `burn` some seconds after `light`, unless it is put out by what arrived in time."""

    __slots__ = ("_burn", "_looks", "_seconds", "_timer")

    def __init__(self, seconds: float, burn: Callable[[], object]) -> None:
        self._seconds = seconds
        self._burn = burn
        self._looks = 0
        self._timer: asyncio.TimerHandle | None = None

    def light(self) -> None:
        """Begin, unless it burns already."""
        if self._timer is None:
            self._looks = LOOKS
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._look)

    def put_out(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._looks:
            self._looks -= 1
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        else:
            self._timer = None
            self._burn()
