"""Dead letters: the calls that lost their worker twice, for an operator to look at. Only the last 1,000 are kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox_service.queue.link import Link

_NAME = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A call that lost its worker twice."""

    letter: str
    """Its own name, which begins with the time in ms."""
    tenant: str
    id: str
    attempts: int
    worker: str
    """The one it was lost with last."""
    digest: str
    payload: bytes
    """As in its Submission; empty if it was too large to be kept."""


class Letters:
    def __init__(self, link: Link, keys: Mapping[str, str]) -> None:
        self._link = link
        self._stream = keys["DEAD"]

    async def latest(self, most: int) -> list[DeadLetter]:
        """The latest first."""
        found = await self._link.command("XREVRANGE", self._stream, "+", "-", "COUNT", str(most))
        return [_read(each) for each in found]

    async def get(self, letter: str) -> DeadLetter | None:
        if not _NAME.fullmatch(letter):
            return None
        found = await self._link.command("XRANGE", self._stream, letter, letter)
        return _read(found[0]) if found else None

    async def remove(self, letter: str) -> None:
        await self._link.command("XDEL", self._stream, letter)


def _read(entry: tuple[bytes, dict[bytes, bytes]]) -> DeadLetter:
    name, fields = entry
    text = {key.decode(): value.decode() for key, value in fields.items() if key != b"payload"}
    return DeadLetter(
        letter=name.decode(),
        tenant=text["tenant"],
        id=text["id"],
        attempts=int(text["attempts"]),
        worker=text["worker"],
        digest=text["digest"],
        payload=fields[b"payload"],
    )
