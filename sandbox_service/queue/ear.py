"""Messages of one channel, read from a connection of their own without redis-py's layers, a task and a timer for each.

redis-py makes the connection. Whoever listens also hears when nothing was said: a server that is silent is asked for a
sign of life, and given up without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import TimeoutError as NoAnswer

from sandbox_service.queue.line import PIECE, parser_for, replies, send


async def hear(
    connection: AbstractConnection, channel: str, *, tick_s: float, patience_s: float
) -> AsyncIterator[bytes | None]:
    """Subscribe; None when that is confirmed, and later after each `tick_s` without a message. It ends by a RedisError.

    The connection is the caller's, who closes it. LostConnection: it ended; NoAnswer: silent for `patience_s` twice.
    """
    stream, writer = connection._reader, connection._writer
    assert stream is not None
    assert writer is not None
    parser = parser_for(connection)
    send(writer, "SUBSCRIBE", channel)
    silent_s, is_subscribed = 0.0, False
    while True:
        try:
            async with asyncio.timeout(tick_s):
                piece = await stream.read(PIECE)
        except TimeoutError as failure:
            if stream.exception() is not None:  # it was the system's: nothing came for so long that the kernel gave up
                raise LostConnection(f"the connection was lost: {failure}") from failure
            silent_s += tick_s
            if silent_s >= 2 * patience_s:
                raise NoAnswer(f"no sign of life for {silent_s:g} s") from None
            if silent_s >= patience_s:
                send(writer, "PING")
            if is_subscribed:
                yield None
            continue
        except OSError as failure:
            raise LostConnection(f"the connection was lost: {failure}") from failure
        if not piece:
            raise LostConnection("the server closed the connection")
        silent_s = 0.0
        for reply in replies(parser, piece):
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply, list) and reply[0] == b"message":
                yield reply[2]
            elif isinstance(reply, list) and reply[0] == b"subscribe":
                is_subscribed = True
                yield None
