"""Why the queue does not take a call, as the errors that a client gets."""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_service.errors import Conflict, Overloaded, QuotaExceeded, SandboxError
from sandbox_service.queue.records import Record, Submission, state_of, unpacked

_SOONEST_S, _LATEST_S = 0.05, 3600.0
_HOLDS_S = 0.25
"""A refusal is said to hold no longer than this: the estimate it comes from changes."""
_OF_SERVICE = {
    "depth": "{have:.0f} calls are queued and at most {limit:.0f} may be",
    "bytes": "{have:.0f} bytes of calls are unfinished and at most {limit:.0f} may be",
}
_OF_TENANT = {
    "rate": "more calls than {limit:g} per second, this tenant's limit",
    "cpu": "this tenant's calls used {have:.0f} s of CPU time lately and may use {limit:.0f} s per hour",
    "queued": "{have:.0f} calls of this tenant are queued and at most {limit:.0f} may be",
}


def conflict(submissions: Sequence[Submission], index: int, batch: str | None = None) -> Conflict:
    if index < 0:
        return Conflict(f"batch {batch!r} was submitted before with other calls", field="id")
    field = f"calls.{index}.id" if batch is not None or len(submissions) > 1 else "id"
    return Conflict(f"call {submissions[index].id!r} was submitted before with another body", field=field)


def refusal(why: bytes) -> Overloaded:
    """Read `kind us have limit` (submit.lua)."""
    kind, *figures = why.decode().split()
    after_us, have, limit = map(float, figures)
    error = _in_words(kind, have, limit)
    error.retry_after_s = min(max(after_us / 1e6, _SOONEST_S), _LATEST_S)
    if kind == "wait":  # by then little of what is queued has been run: no slot is idle for it
        error.holds_s = min(max(after_us, have / 8) / 1e6, _HOLDS_S)
    elif kind != "bytes":  # a smaller call may fit
        error.holds_s = min(after_us / 1e6, _HOLDS_S)
    return error


def _in_words(kind: str, have: float, limit: float) -> Overloaded:
    if kind == "wait":
        reason = f"it would wait about {have / 1e6:.1f} s, too long for its deadline in {limit / 1e6:.1f} s"
        return Overloaded(f"{reason}: try again later, or with a higher timeout_s")
    if kind in _OF_SERVICE:
        return Overloaded(f"{_OF_SERVICE[kind].format(have=have, limit=limit)}: try again later")
    return QuotaExceeded(_OF_TENANT[kind].format(have=have, limit=limit))


def outcomes_of(submissions: Sequence[Submission], reply: Sequence[bytes | None]) -> list[Record | SandboxError]:
    """Read (state, result) pairs, one for each call, where a state can be a refusal."""
    outcomes: list[Record | SandboxError] = []
    for each, state, result in zip(submissions, reply[::2], reply[1::2], strict=True):
        if state == b"conflict":
            outcomes.append(conflict([each], 0))
        elif state == b"refused":
            assert result is not None
            outcomes.append(refusal(result))
        else:
            known = state_of(state)
            assert known is not None
            outcomes.append(Record(each.id, known, unpacked(result)))
    return outcomes
