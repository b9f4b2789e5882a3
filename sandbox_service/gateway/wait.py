"""The Results of some calls for one request, collected as they arrive."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from sandbox_service.queue import State

Key = tuple[str, str]
"""(tenant, call id)"""


class Abandoned(Exception):
    """The client of this wait went away; nobody is left to answer."""


class Wait:
    """What one request waits for. A context manager: leaving it ends the wait. One task reads it.

    `name` is how errors speak of it (`call X`, `batch Y`); `private`: no other client can know the ids.
    """

    def __init__(self, name: str, keys: Sequence[Key], close: Callable[[Wait, bool], None], *, private: bool) -> None:
        self.name = name
        self.keys = keys
        self.private = private
        self.state: State = "queued"
        """Of all calls together, when the wait began."""
        self.results: list[bytes | None] = [None] * len(keys)
        self.missing = len(keys)
        self._close = close
        self._fresh: deque[int] = deque()
        self._error: BaseException | None = None
        self._wake: asyncio.Future[None] | None = None
        self._wants_some = False

    async def all(self) -> list[bytes]:
        """Return every Result in order. Raise Abandoned, or the error that ended the wait."""
        while self.missing:
            await self._sleep(wants_some=False)
        return [result for result in self.results if result is not None]

    async def some(self) -> list[tuple[int, bytes]]:
        """Return what arrived since the last time (index, Result), at least one; each is forgotten here."""
        while not self._fresh:
            await self._sleep(wants_some=True)
        arrived = []
        while self._fresh:
            index = self._fresh.popleft()
            result = self.results[index]
            assert result is not None
            self.results[index] = b""
            arrived.append((index, result))
        return arrived

    def abandon(self) -> None:
        """The client went away: whoever reads this wait gets Abandoned."""
        self.fail(Abandoned())

    def fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
            self._notify()

    def deliver(self, index: int, result: bytes) -> None:
        if self.results[index] is None:
            self.results[index] = result
            self.missing -= 1
            self._fresh.append(index)
            if self._wants_some or not self.missing:
                self._notify()

    def close(self) -> None:
        self._close(self, isinstance(self._error, Abandoned))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    async def _sleep(self, *, wants_some: bool) -> None:
        if self._error is not None:
            raise self._error
        self._wants_some = wants_some
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
