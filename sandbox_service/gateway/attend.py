"""Work for a client that may go away: ends with its connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from sandbox_service.gateway.wait import Wait

T = TypeVar("T")


async def attend(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` does; cancel it and raise ClientDisconnect when the client closes its connection."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(until_disconnect(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def results(wait: Wait) -> list[bytes]:
    """Return all Results of a wait and end it; if this task is cancelled meanwhile, so are the calls."""
    with wait:
        try:
            return await wait.all()
        except asyncio.CancelledError:
            wait.abandon()
            raise


async def until_disconnect(receive: Receive) -> None:
    """Return when the client has closed its connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
