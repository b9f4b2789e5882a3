"""The connection to the server: which servers are accepted, how a command is run, and what a failure is called.

Invariants: a command runs to its end even if its caller is cancelled, so no reply is ever left in a connection for
the next command to read as its own (redis-py issue 2624), and no cancellation is ever swallowed; a failure of the
server is Unavailable, one of our scripts is ServiceFault; no message holds the password. It does not know what the
scripts do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import (
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as NoAnswer

from sandbox_service.errors import ServiceFault, SetupError, Unavailable
from sandbox_service.queue.ear import hear
from sandbox_service.queue.line import Line
from sandbox_service.queue.outage import Outage
from sandbox_service.queue.scripts import Script

PATIENCE_S = 2.0
"""How long a command is tried again on a lost connection before the caller is told."""
SOCKET_TIMEOUT_S = 5.0
_CONNECTIONS = 64
_OLDEST_MAJOR = 7

# Error replies that mean the server, not our script, is at fault: by class, or by code where redis-py has none.
_SERVER_FAULTS = (OutOfMemoryError, ReadOnlyError, MasterDownError, NoPermissionError)
_SERVER_FAULT_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE")

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Link:
    def __init__(self, url: str) -> None:
        self.url = url
        self._where = _without_password(url)
        self._tasks: set[asyncio.Task[Any]] = set()
        try:
            # No retries inside the client: they would hide a lost subscription, and each caller's patience differs.
            self._pool = BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS,
                timeout=SOCKET_TIMEOUT_S,
                socket_timeout=SOCKET_TIMEOUT_S,
                socket_connect_timeout=SOCKET_TIMEOUT_S,
                health_check_interval=10,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise SetupError(f"SANDBOX_REDIS_URL {self._where!r} is not valid: {error}") from error
        self.client = Redis.from_pool(self._pool)
        self._line = Line(self._pool, SOCKET_TIMEOUT_S)

    async def check(self) -> None:
        """Refuse a server that would lose calls (SetupError); Unavailable if there is none."""
        try:
            info = await self.client.info()
        except RedisError as error:
            raise Unavailable(
                f"no Redis at {self._where}: {_why(error)}. Start one, or correct SANDBOX_REDIS_URL",
                retry_after_s=1,
            ) from error
        version = str(info.get("redis_version", "0"))
        if int(version.split(".")[0]) < _OLDEST_MAJOR:
            raise SetupError(f"the Redis at {self._where} is version {version}; 7.0 or later (or Valkey) is needed")
        if "cluster" in (info.get("redis_mode"), info.get("server_mode")):
            raise SetupError(f"the Redis at {self._where} runs in cluster mode; use one without it (replicas are fine)")
        if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
            # Refused with maxmemory 0 too: nothing is evicted then, but one setting more and calls would vanish.
            raise SetupError(
                f"the Redis at {self._where} evicts keys under memory pressure ({policy}), which would lose calls: "
                "run `CONFIG SET maxmemory-policy noeviction`, and set it in redis.conf"
            )
        if not info.get("aof_enabled"):
            _log.warning("the Redis at %s has no append-only file: a restart loses calls", self._where)

    async def close(self) -> None:
        await self.settle()
        self._line.close()
        await self.client.aclose()

    async def run(self, script: Script, *args: str | bytes | int, patience_s: float = PATIENCE_S) -> Any:
        async def evaluate() -> Any:
            try:
                return await self._line.ask("EVALSHA", script.sha, 0, *args)
            except NoScriptError:
                return await self._line.ask("EVAL", script.text, 0, *args)

        try:
            return await evaluate()
        except RedisError as error:
            if not self._may_pass(error, patience_s):
                raise self.fault(error) from error
        return await self.attempt(evaluate, patience_s)

    async def command(self, *words: str | bytes) -> Any:
        return await self.attempt(lambda: self.client.execute_command(*words))  # type: ignore[no-untyped-call]

    async def attempt(self, command: Callable[[], Awaitable[_T]], patience_s: float = PATIENCE_S) -> _T:
        """Run a command that may be repeated, trying again on a lost connection for up to `patience_s`.

        With more patience than a request has, a server that answers and refuses (no memory, no writes) is waited for
        as well: a result is worth that.
        """
        return await asyncio.shield(self.spawn(self._persist(command, patience_s)))

    async def _persist(self, command: Callable[[], Awaitable[_T]], patience_s: float) -> _T:
        give_up = time.monotonic() + patience_s
        while True:
            try:
                return await command()
            except RedisError as error:
                pause_s = jittered(0.2)
                if not self._may_pass(error, patience_s) or time.monotonic() + pause_s > give_up:
                    raise self.fault(error) from error
                await asyncio.sleep(pause_s)

    def _may_pass(self, error: RedisError, patience_s: float) -> bool:
        if isinstance(error, LostConnection | NoAnswer):
            return patience_s > 0
        return patience_s > PATIENCE_S and isinstance(self.fault(error), Unavailable)

    async def listen(self, channel: str, *, tick_s: float | None = None) -> AsyncIterator[bytes | None]:
        """Messages of a channel, for ever; None after each (re)connect, and after each `tick_s` without a message."""
        outage = Outage(f"listening to {channel}")
        while True:
            connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                await self._aside(connection.connect())  # type: ignore[no-untyped-call]
                heard = hear(connection, channel, tick_s=tick_s or SOCKET_TIMEOUT_S, patience_s=SOCKET_TIMEOUT_S)
                yield await anext(heard)
                outage.over()
                async for message in heard:
                    if message is not None or tick_s is not None:
                        yield message
            except RedisError as error:
                outage.because(self.fault(error))
            finally:
                connection._close()  # type: ignore[no-untyped-call]
            await asyncio.sleep(jittered(0.5))

    async def _aside(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await redis-py in a task of its own, which ends with its caller. Awaited directly it can swallow the
        caller's cancellation (asyncio.wait_for before Python 3.12 does), and the caller would go on for ever."""
        task = self.spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise

    def fault(self, error: RedisError) -> Unavailable | ServiceFault:
        ours = isinstance(error, ResponseError) and not isinstance(error, _SERVER_FAULTS)
        if ours and not str(error).startswith(_SERVER_FAULT_CODES):
            return ServiceFault(f"the queue answered: {error}")
        return Unavailable(f"the queue at {self._where} is not available: {error}", retry_after_s=1)

    def spawn(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task that `settle` waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marked as seen: who awaits it hears of it, and who went away does not care

    async def settle(self) -> None:
        """Wait for everything that cancelled callers left under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._line.settle()


def jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 (spreads reconnects, protects nothing)


def _why(error: RedisError) -> str:
    """Return why no connection was made, without the numbers that the system has for it."""
    fault = error.__cause__ or error.__context__
    if isinstance(fault, socket.gaierror):
        return f"its host's name cannot be resolved ({fault.strerror})"
    if isinstance(fault, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(fault, FileNotFoundError):
        return "there is no such socket"
    return str(error).rstrip(".")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if "://" not in url:  # not valid: shown as it was given
        return url.rpartition("@")[2]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
