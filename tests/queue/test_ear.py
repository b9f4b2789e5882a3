"""Listening to a channel: what ends it, and what does not. The connections are redis-py's, the servers real or rude."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis
import uvloop
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as NoAnswer

from sandbox_service.embedded import EmbeddedServer
from sandbox_service.queue.ear import hear
from sandbox_service.queue.line import send


async def connected(url: str) -> AbstractConnection:
    connection: AbstractConnection = ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    await connection.connect()  # type: ignore[no-untyped-call]
    return connection


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[AbstractConnection]:
    made = await connected(redis_url)
    yield made
    made._close()  # type: ignore[no-untyped-call]


async def test_a_quiet_channel_is_no_dead_server(connection: AbstractConnection, redis_url: str) -> None:
    """Asked again and again for a sign of life it gives one; then a message comes."""
    heard = hear(connection, "ear-quiet", tick_s=0.02, patience_s=0.1)
    assert await anext(heard) is None
    began = time.monotonic()
    while time.monotonic() < began + 0.5:
        assert await anext(heard) is None
    with redis.Redis.from_url(redis_url) as client:
        client.publish("ear-quiet", b"\r\nx")
    assert await anext(each async for each in heard if each is not None) == b"\r\nx"


async def test_a_server_that_stands_still_is_given_up() -> None:
    with (
        TemporaryDirectory(prefix="ear-") as directory,
        EmbeddedServer(Path(directory) / "data", Path(directory) / "redis.sock") as server,
    ):
        connection = await connected(server.url)
        heard = hear(connection, "c", tick_s=0.2, patience_s=0.2)
        assert await anext(heard) is None
        os.kill(server.pid, signal.SIGSTOP)
        try:
            assert await anext(heard) is None
            with pytest.raises(NoAnswer, match="no sign of life"):
                await anext(heard)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        connection._close()  # type: ignore[no-untyped-call]


async def test_a_killed_connection_and_a_refusal_end_it(connection: AbstractConnection, redis_url: str) -> None:
    heard = hear(connection, "c", tick_s=1, patience_s=5)
    assert await anext(heard) is None
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_type="pubsub", skipme=True)
        with pytest.raises(LostConnection):
            await anext(heard)
        client.execute_command("ACL", "SETUSER", "deaf", "on", ">pw", "+@all", "~*", "resetchannels")
        try:
            refused = await connected(redis_url)
            send(refused._writer, "AUTH", "deaf", "pw")  # type: ignore[arg-type]
            with pytest.raises(RedisError, match="permission"):
                await anext(hear(refused, "c", tick_s=1, patience_s=5))
            refused._close()  # type: ignore[no-untyped-call]
        finally:
            client.execute_command("ACL", "DELUSER", "deaf")


def test_who_writes_to_a_connection_that_was_just_reset_hears_of_it() -> None:
    """uvloop says RuntimeError then, which no loop that tries again would expect."""

    async def write() -> None:
        with socket.create_server(("127.0.0.1", 0)) as rude:
            _, writer = await asyncio.open_connection(*rude.getsockname())
            peer, _ = rude.accept()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()  # with a reset
            await asyncio.sleep(0.1)
            send(writer, "PING")

    with pytest.raises(LostConnection):
        uvloop.run(write())
