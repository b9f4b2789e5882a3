"""A progress bar for `map`: one line on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_WIDTH = 24
_REDRAW_S = 0.1
_LOG_S = 30.0


class Bar:
    """Counts to `total` (None: unknown) on stderr; a context manager. Says nothing unless `shown`."""

    def __init__(self, total: int | None, *, shown: bool) -> None:
        self._total = total
        self._shown = shown
        self._done = 0
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._next = self._begun if self._terminal else self._begun + _LOG_S

    def advance(self) -> None:
        self._done += 1
        if self._shown and (now := time.monotonic()) >= self._next:
            self._next = now + (_REDRAW_S if self._terminal else _LOG_S)
            self._draw("" if self._terminal else "\n")

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._draw("\n")

    def _draw(self, end: str) -> None:
        took_s = max(time.monotonic() - self._begun, 1e-6)
        rate = self._done / took_s
        text = f"{self._done} calls"
        if self._total:
            share = self._done / self._total
            bar = "#" * int(share * _WIDTH)
            left_s = (self._total - self._done) / rate if rate else 0
            text = f"{share:4.0%} |{bar:<{_WIDTH}}| {self._done}/{self._total}, {left_s:.0f} s left"
        start = "\r\x1b[K" if self._terminal else ""
        print(f"{start}{text} [{took_s:.0f} s, {rate:.0f}/s]", end=end, file=sys.stderr, flush=True)
