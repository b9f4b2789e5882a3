"""How a worker waits for work without asking again and again: it takes a token that a script left for its image.

A wait whose caller went away is ended at once, and the token that it got instead is handed on.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence

from sandbox_service.errors import SandboxError
from sandbox_service.queue.link import Link
from sandbox_service.queue.scripts import WAKE_TTL_MS

WAKE_POLL_S = 1.0
"""A worker that waits looks by itself this often: a wake-up lost with a connection costs at most this."""

_log = logging.getLogger(__name__)


class Wakeups:
    def __init__(self, link: Link, keys: Mapping[str, str]) -> None:
        self._link = link
        self._keys = keys

    async def wait(self, images: Sequence[str], timeout_s: float) -> None:
        """Return when there may be work for these images, or after `timeout_s`."""
        until_cancelled = self._keys["UNWAIT"] + uuid.uuid4().hex
        lists = [*(self._keys["WAKE"] + image for image in images), until_cancelled]
        waiting = self._link.spawn(self._pop(lists, timeout_s))
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self._link.spawn(self._end_wait(waiting, until_cancelled))
            raise

    async def _pop(self, lists: list[str], timeout_s: float) -> str | None:
        """The list that gave a token; None after `timeout_s`."""
        popped: list[bytes] | None = await self._link.command("BLPOP", *lists, f"{max(timeout_s, 0.01):.3f}")
        return None if popped is None else popped[0].decode()

    async def _end_wait(self, waiting: asyncio.Task[str | None], until_cancelled: str) -> None:
        """End a wait whose caller went away, by a token of its own, and hand on a wake-up that it got instead."""
        try:
            await self._give_token(until_cancelled)
            await asyncio.wait([waiting])
            if (got := waiting.result()) is not None and got != until_cancelled:
                await self._give_token(got)
        except SandboxError as error:
            _log.warning("a wake-up may come %s s late: %s", WAKE_POLL_S, error)

    async def _give_token(self, name: str) -> None:
        await self._link.command("RPUSH", name, "1")
        await self._link.command("PEXPIRE", name, str(WAKE_TTL_MS))
