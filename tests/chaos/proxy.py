"""A switch in the line between one part of the service and Redis: it can be cut, go silent or become slow."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from enum import Enum
from pathlib import Path

_PIECE = 1 << 16


class State(Enum):
    OPEN = "open"
    CUT = "cut"
    """Connections break, and new ones are closed at once."""
    SILENT = "silent"
    """Connections stay, and nothing gets through; what was sent meanwhile arrives afterwards, as TCP does it."""


class Proxy:
    """Listens on the unix socket `path`, and on a TCP port of 127.0.0.1 if wanted; leads to the socket `target`."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.target = target
        self.delay_s = (0.0, 0.0)
        """Each piece is held up for a random time between these two."""
        self._state = State.OPEN
        self._passing = asyncio.Event()
        self._passing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []
        self._loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._servers.append(await asyncio.start_unix_server(self._serve, self.path))

    async def listen_tcp(self) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        self._switch(State.CUT)

    def set(self, state: State) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._switch, state)

    def _switch(self, state: State) -> None:
        self._state = state
        if state is State.SILENT:
            self._passing.clear()
        else:
            self._passing.set()
        if state is State.CUT:
            for writer in list(self._writers):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            if self._state is State.CUT:
                writer.transport.abort()
                return
            there, back = await asyncio.open_unix_connection(self.target)
            self._writers |= {writer, back}
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, back))
                    group.create_task(self._pump(there, writer))
            finally:
                self._writers -= {writer, back}
                back.transport.abort()
        writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                await self._passing.wait()
                if self.delay_s[1]:
                    await asyncio.sleep(random.uniform(*self.delay_s))
                writer.write(data)
                await writer.drain()
        if not writer.is_closing():
            writer.close()
