"""The one connection on which scripts run: what counts as silence of the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import uvloop
from redis.asyncio import ConnectionPool
from redis.exceptions import TimeoutError as NoAnswer

from sandbox_service.embedded import EmbeddedServer
from sandbox_service.queue.line import Line
from tests.chaos.proxy import Proxy, State

SILENCE_S = 0.3
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@asynccontextmanager
async def line(url: str) -> AsyncIterator[Line]:
    pool = ConnectionPool.from_url(url)
    made = Line(pool, SILENCE_S)
    try:
        yield made
    finally:
        made.close()
        await pool.aclose()


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_busy_loop_is_no_silence(redis_url: str, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The answer lies in the socket while the loop computes for longer than it may take: tens of thousands of
    connections at once kept a gateway so busy that it gave up its server, and with it all that they asked."""

    async def ask() -> None:
        async with line(redis_url) as asked:
            await asked.ask("PING")
            connection = asked._connection
            answers = [asyncio.create_task(asked.ask("PING")) for _ in range(3)]
            await asyncio.sleep(0)
            time.sleep(3 * SILENCE_S)
            assert await asyncio.gather(*answers) == [b"PONG"] * 3
            assert asked._connection is connection

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(ask())


async def test_a_long_line_is_no_silence(redis_url: str) -> None:
    """Each answer comes in time, the last one long after it was asked for."""
    async with line(redis_url) as asked:
        begun = time.monotonic()
        answers = [asked.ask("BLPOP", "nothing-is-here", "0.2") for _ in range(5)]
        assert await asyncio.gather(*answers) == [None] * 5
        assert time.monotonic() - begun > 2 * SILENCE_S


async def test_silence_ends_all_that_was_asked_and_the_connection(redis_server: EmbeddedServer) -> None:
    """Nothing comes back and nothing breaks: all hear of it, and the next command gets a connection of its own."""
    with TemporaryDirectory(prefix="line-") as folder:
        proxy = Proxy(Path(folder, "s"), redis_server.socket_path)
        await proxy.start()
        async with line(proxy.url) as asked:
            assert await asked.ask("PING") == b"PONG"
            proxy.set(State.SILENT)
            begun = time.monotonic()
            outcomes = await asyncio.gather(*(asked.ask("PING") for _ in range(3)), return_exceptions=True)
            assert [type(each) for each in outcomes] == [NoAnswer] * 3
            assert SILENCE_S <= time.monotonic() - begun < 10 * SILENCE_S
            proxy.set(State.OPEN)
            assert await asked.ask("PING") == b"PONG"
        await proxy.stop()
