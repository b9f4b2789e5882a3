"""One connection to the server on which scripts run, any number of them under way: answers come in the order asked.

redis-py takes a connection from its pool for each command and gives it back, which is most of what a command costs.
Here a command is one write, and its answer one future. A caller that is cancelled leaves its place in the order, so no
answer is ever taken for another's. A server that sends nothing for some seconds while it owes answers is given up; one
that works through a long line is not, nor is one whose answers wait for us. It makes the connection by redis-py
(addresses, passwords, TLS) and its errors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as LostConnection
from redis.exceptions import InvalidResponse, RedisError
from redis.exceptions import TimeoutError as NoAnswer

from sandbox_service.fuse import Fuse

PIECE = 1 << 16
_NOTHING = object()


class Line:
    def __init__(self, pool: ConnectionPool, timeout_s: float) -> None:
        self._pool = pool
        self._silence = Fuse(timeout_s, self._give_up)
        self._no_answer = f"no answer within {timeout_s:g} s"
        self._opening = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._writer: asyncio.StreamWriter
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._reading: asyncio.Task[None] | None = None

    async def ask(self, *words: str | bytes | int) -> Any:
        """Run a command. LostConnection and NoAnswer: it may have run or not."""
        if self._connection is None:
            await self._open()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        try:
            send(self._writer, *words)
            self._silence.light()
        except LostConnection as error:
            self._fail(error)
        return await answer

    async def settle(self) -> None:
        """Wait for the answers that cancelled callers left under way."""
        if self._asked:
            with contextlib.suppress(RedisError):
                await self.ask("PING")

    def close(self) -> None:
        self._fail(LostConnection("the connection was closed"))

    async def _open(self) -> None:
        async with self._opening:
            if self._connection is not None:
                return
            connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
            await connection.connect()  # type: ignore[no-untyped-call]
            assert connection._reader is not None
            assert connection._writer is not None
            self._connection, self._writer = connection, connection._writer
            self._reading = asyncio.create_task(self._read(connection, connection._reader))

    async def _read(self, connection: AbstractConnection, stream: asyncio.StreamReader) -> None:
        parser = parser_for(connection)
        error: RedisError = LostConnection("the server closed the connection")
        try:
            while piece := await stream.read(PIECE):
                self._silence.put_out()
                for reply in replies(parser, piece):
                    _settle(self._asked.popleft(), reply)
                if self._asked:
                    self._silence.light()
        except OSError as failure:
            error = LostConnection(f"the connection was lost: {failure}")
        except RedisError as failure:
            error = failure
        if self._connection is connection:
            self._fail(error)

    def _give_up(self) -> None:
        """It may be dead without a word: the next command gets a new connection."""
        self._fail(NoAnswer(self._no_answer))

    def _fail(self, error: RedisError) -> None:
        if self._connection is None:
            return
        self._silence.put_out()
        self._connection._close()  # type: ignore[no-untyped-call]
        self._connection = None
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()
        asked, self._asked = self._asked, deque()
        for answer in asked:
            _settle(answer, error)


def send(writer: asyncio.StreamWriter, *words: str | bytes | int) -> None:
    """Write a command. LostConnection: the connection has just ended, of which its reader will hear next."""
    try:
        writer.write(hiredis.pack_command(words))  # type: ignore[arg-type]
    except (OSError, RuntimeError) as failure:  # the second is uvloop's
        raise LostConnection(f"the connection was lost: {failure}") from failure


def parser_for(connection: AbstractConnection) -> hiredis.Reader:
    return hiredis.Reader(
        protocolError=InvalidResponse, replyError=connection._parser.parse_error, notEnoughData=_NOTHING
    )


def replies(parser: hiredis.Reader, piece: bytes) -> Iterator[Any]:
    """Yield what is complete with this piece; what the server refused is an error of redis-py's, not raised here."""
    parser.feed(piece)
    while (reply := parser.gets()) is not _NOTHING:
        yield reply


def _settle(answer: asyncio.Future[Any], reply: Any) -> None:
    if answer.done():  # its caller is gone
        return
    if isinstance(reply, Exception):
        answer.set_exception(reply)
    else:
        answer.set_result(reply)
