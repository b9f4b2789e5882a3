"""The engine of a blocking client, in an event loop of its own in a thread: many threads' calls share its streams."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from sandbox_service.client._engine import Options
from sandbox_service.client._loops import PerLoop, closed, leave_to_parent, survives_forks
from sandbox_service.client._stats import Stats
from sandbox_service.client._transport import Transport
from sandbox_service.models import Call, Result

T = TypeVar("T")


class _Running:
    """A thread with an event loop, until `end` is called, its owner is collected, or the interpreter exits."""

    def __init__(self, owner: object, service: PerLoop) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=_serve, args=(self.loop, service), name="sandbox-client", daemon=True)
        self.thread.start()
        self.end = weakref.finalize(owner, self.loop.call_soon_threadsafe, self.loop.stop)


def _serve(loop: asyncio.AbstractEventLoop, service: PerLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(service.close())
        loop.run_until_complete(_end_all())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


async def _end_all() -> None:
    """Nobody waits for ever in another thread: what is still there ends, as cancelled if need be."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, late = await asyncio.wait(others, timeout=1)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class InThread:
    """What PerLoop is to coroutines, for threads. Its own thread starts with the first call."""

    def __init__(self, options: Options) -> None:
        self._service = PerLoop(options)
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._closed = False
        survives_forks(self)

    def forget(self) -> None:
        if self._running is not None:
            self._running.end.detach()
        leave_to_parent(self._running)
        self._running, self._lock = None, threading.Lock()

    def start(self, call: Call) -> Future[Result]:
        return self._submit(self._service.run(call))

    def run(self, call: Call) -> Result:
        return _outcome(self.start(call))

    def ask(self, operation: Callable[[Transport, float], Awaitable[T]], timeout_s: float) -> T:
        return _outcome(self._submit(self._service.ask(operation, timeout_s)))

    def stats(self, *, reset: bool) -> Stats:
        return self._service.stats(reset=reset)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None:
            running.end()
            running.thread.join()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._closed:
                work.close()
                raise closed()
            if self._running is None:
                self._running = _Running(self, self._service)
            return asyncio.run_coroutine_threadsafe(work, self._running.loop)


def _outcome(future: Future[T]) -> T:
    """Wait for a future; whoever stops waiting (Ctrl-C) cancels what it stands for."""
    try:
        return future.result()
    finally:
        future.cancel()
