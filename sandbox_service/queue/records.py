"""What goes into the queue and comes out of it, and how the scripts' replies are read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

State = Literal["queued", "running", "done", "gone"]
"""`gone`: it was done, and its Result has passed its time to live."""

PACKED_FROM, PACKED_UP_TO = 2 << 10, 1 << 20
"""Results of so many bytes are compressed: smaller ones gain nothing, larger ones would keep the event loop for longer
than its clocks allow (10 ms a MiB)."""
_LEVEL = 1
_COMPRESSED = b"x"
"""How zlib begins, and JSON does not."""

_STATES: dict[bytes, State] = {b"queued": "queued", b"running": "running", b"done": "done", b"gone": "gone"}


@dataclass(frozen=True, slots=True)
class Submission:
    """A validated call on its way into the queue."""

    id: str
    payload: bytes
    """The Call as JSON, its limits resolved; the worker reads it, the queue does not."""
    digest: str
    """sha256 of the call as the client sent it: tells a repeat from a conflict."""
    image: str
    priority: str
    labels: dict[str, str]
    timeout_s: float
    """Seconds from now until the deadline."""
    age_s: float
    """Seconds since the request arrived (kept for `timings.admitted`)."""
    keep: bool = False
    """Somebody holds a ticket for it: no client that goes away cancels it."""

    def fields(self) -> tuple[str | bytes | int, ...]:
        """Return what submit.lua is told of it."""
        times = micros(self.timeout_s), micros(self.age_s)
        labels = json.dumps(self.labels)
        return self.id, self.digest, self.image, self.priority, *times, labels, self.payload, int(self.keep)


@dataclass(frozen=True, slots=True)
class Execution:
    """One attempt at a call, owned by the worker that claimed it."""

    tenant: str
    id: str
    attempt: int
    payload: bytes
    admitted_s: float
    queued_s: float
    """Seconds from admission to this claim; a second attempt's include the first."""
    remaining_s: float
    """Seconds until the call's deadline, at the moment of the claim."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the queue knows of a call. `result` (the Result as JSON) is set if and only if it is done."""

    id: str
    state: State
    result: bytes | None


class Ended(NamedTuple):
    """A call that ended, as it is announced."""

    tenant: str
    id: str
    result: bytes | None
    """As in a Record; None: too large to be announced."""


def state_of(reply: bytes | None) -> State | None:
    return None if reply is None else _STATES[reply]


def records_of(ids: Sequence[str], reply: Sequence[bytes | None]) -> list[Record | None]:
    """Read (state, result) pairs, one for each id."""
    records: list[Record | None] = []
    for call_id, state, result in zip(ids, reply[::2], reply[1::2], strict=True):
        known = state_of(state)
        records.append(None if known is None else Record(call_id, known, unpacked(result)))
    return records


def packed(result: bytes) -> bytes:
    """Return a result as the server keeps it; any bytes come back as they were."""
    is_worth_it = PACKED_FROM <= len(result) <= PACKED_UP_TO
    return zlib.compress(result, _LEVEL) if is_worth_it or result.startswith(_COMPRESSED) else result


def unpacked(kept: bytes | None) -> bytes | None:
    return zlib.decompress(kept) if kept is not None and kept.startswith(_COMPRESSED) else kept


def executions_of(reply: Sequence[Any]) -> list[Execution]:
    """Read claimed calls, seven values each, times in microseconds."""
    executions = []
    for at in range(0, len(reply), 7):
        tenant, call_id, attempt, payload, age, queued, remaining = reply[at : at + 7]
        times = int(age) / 1e6, int(queued) / 1e6, int(remaining) / 1e6
        executions.append(Execution(tenant.decode(), call_id.decode(), int(attempt), payload, *times))
    return executions


def names_of(message: bytes) -> list[tuple[str, str]] | None:
    """Read an announcement of (tenant, id); None if it is none."""
    try:
        texts = [text.decode() for text in _texts_of(message)]
        return list(zip(texts[::2], texts[1::2], strict=True))
    except ValueError:
        return None


def ended_of(message: bytes) -> list[Ended]:
    """Read an announcement of (tenant, id, result)."""
    texts = _texts_of(message)
    return [
        Ended(tenant.decode(), call_id.decode(), unpacked(result or None))
        for tenant, call_id, result in zip(texts[::3], texts[1::3], texts[2::3], strict=True)
    ]


def _texts_of(message: bytes) -> list[bytes]:
    texts, at = [], 0
    while at < len(message):
        begin = message.index(b":", at) + 1
        end = begin + int(message[at : begin - 1])
        texts.append(message[begin:end])
        at = end
    return texts


def micros(seconds: float) -> int:
    return round(seconds * 1_000_000)
