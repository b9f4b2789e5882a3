"""An engine for each event loop that a client is used in, and what becomes of engines when the process forks."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from sandbox_service.client._engine import Engine, Options
from sandbox_service.client._stats import Recorder, Stats, summed
from sandbox_service.client._transport import Transport
from sandbox_service.errors import SetupError
from sandbox_service.models import Call, Result

T = TypeVar("T")


class Forkable(Protocol):
    def forget(self) -> None:
        """Called in a forked child: begin afresh; what is held belongs to the parent."""
        ...


_inherited: list[Any] = []
"""What a forked child got from its parent stays here untouched: closing it would reach into the parent's event loop,
because the two share its epoll descriptor."""
_forkable: weakref.WeakSet[Any] = weakref.WeakSet()


@functools.cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=lambda: [each.forget() for each in list(_forkable)])


def survives_forks(one: Forkable) -> None:
    _watch_forks()
    _forkable.add(one)


def leave_to_parent(*things: object) -> None:
    _inherited.append(things)


def closed() -> SetupError:
    return SetupError("this client was closed, by its `close` or the end of its `with`: make another one")


class PerLoop:
    """The engines of an AsyncSandboxClient: one for each event loop, made when it is first used there."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._engines: dict[asyncio.AbstractEventLoop, Engine] = {}
        self._retired: list[Recorder] = []
        self._closed: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        self._lock = threading.Lock()
        survives_forks(self)

    def forget(self) -> None:
        leave_to_parent(self._engines)
        self._engines, self._retired, self._lock = {}, [], threading.Lock()

    def start(self, call: Call) -> asyncio.Future[Result]:
        return self._engine().start(call)

    async def run(self, call: Call) -> Result:
        return await self._engine().start(call)

    async def ask(self, operation: Callable[[Transport, float], Awaitable[T]], timeout_s: float) -> T:
        return await self._engine().ask(operation, timeout_s)

    def stats(self, *, reset: bool) -> Stats:
        with self._lock:
            recorders = [*self._retired, *(engine.recorder for engine in self._engines.values())]
            if reset:
                self._retired = []
                for engine in self._engines.values():
                    engine.recorder = Recorder()
        return summed(recorders)

    async def close(self) -> None:
        with self._lock:
            loop = asyncio.get_running_loop()
            self._closed.add(loop)
            engine = self._engines.pop(loop, None)
            if engine is not None:
                self._retired.append(engine.recorder)
        if engine is not None:
            await engine.close()

    def _engine(self) -> Engine:
        loop = asyncio.get_running_loop()
        engine = self._engines.get(loop)
        if engine is None:
            if loop in self._closed:
                raise closed()
            with self._lock:
                for ended in [each for each in self._engines if each.is_closed()]:
                    self._retired.append(self._engines.pop(ended).recorder)
                engine = self._engines[loop] = Engine(self._options)
        return engine
