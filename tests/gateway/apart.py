"""A gateway in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator

SERVE = "from sandbox_service.config import Settings; from sandbox_service.gateway.app import serve; serve(Settings())"


class Process:
    """A gateway that may be signalled, and its log."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, object]] = []

    async def event(self, name: str) -> dict[str, object]:
        """Read the log until this event; every line of it is JSON."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        raise AssertionError(f"no {name} in {self.events}")


@contextlib.asynccontextmanager
async def process(before: str = "", **environment: str) -> AsyncIterator[Process]:
    """`before`: what it does first, as Python."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"{before}\n{SERVE}",
        env={"PATH": os.environ["PATH"], **environment},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]
