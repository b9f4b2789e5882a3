"""Calls in line to be sent, and who goes together.

An idle client sends at once what came in the same turn of its event loop. One that has streams open lets calls gather
for `linger_s`, or until there are `calls` of them. While every stream is taken they wait; the next ones to open carry
more. Two calls with the same id never share a stream: the service would refuse them as one batch.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence

from sandbox_service.models import BATCH_CALLS, Call, Result

STREAM_CHARS = 2**20
"""Most characters of code, input and files in one stream, unless a single call has more."""


class Awaited:
    """One call that somebody awaits."""

    __slots__ = ("again", "begun", "call", "deadline", "first_id", "future", "stream", "timer")

    def __init__(self, call: Call, future: asyncio.Future[Result], begun: float, deadline: float) -> None:
        assert call.id is not None
        self.call = call
        self.first_id = call.id
        self.future = future
        self.begun = begun
        self.deadline = deadline
        self.again = 0
        """How often it was run again after an `infra_error`."""
        self.stream: Stream | None = None
        """The last stream that it was put into; `missing` there tells if that still carries it."""
        self.timer: asyncio.TimerHandle | None = None


class Stream:
    """Calls that travel together, and the task that carries them."""

    def __init__(self, group: Sequence[Awaited]) -> None:
        self.missing: dict[str | None, Awaited] = {each.call.id: each for each in group}
        self.task: asyncio.Task[None] | None = None
        for each in group:
            each.stream = self


class Line:
    """The calls of one event loop that wait to be sent."""

    def __init__(self, send: Callable[[list[Awaited]], None], *, calls: int, linger_s: float, streams: int) -> None:
        self._send = send
        self._calls = calls
        self._linger_s = linger_s
        self._streams = self._free = streams
        self._waiting: deque[Awaited] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, awaited: Awaited) -> None:
        self._waiting.append(awaited)
        if len(self._waiting) >= self._calls:
            self._flush()
        elif self._timer is None and self._free:
            idle = self._free == self._streams
            self._timer = asyncio.get_running_loop().call_later(0 if idle else self._linger_s, self._flush)

    def stream_ended(self) -> None:
        self._free += 1
        if self._timer is None:
            self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free > 0 and (group := self._take(math.ceil(len(self._waiting) / self._free))):
            self._free -= 1
            self._send(group)

    def _take(self, share: int) -> list[Awaited]:
        most, chars = min(BATCH_CALLS, max(self._calls, share)), 0
        group: dict[str | None, Awaited] = {}
        while self._waiting and len(group) < most:
            first = self._waiting[0]
            chars += _length(first.call)
            if group and (first.call.id in group or chars > STREAM_CHARS):
                break
            self._waiting.popleft()
            if not first.future.done():
                group[first.call.id] = first
        return list(group.values())


def _length(call: Call) -> int:
    texts = (call.code, call.stdin, call.expected_stdout or "", *call.args, *call.env.values(), *call.files.values())
    return sum(map(len, texts))
