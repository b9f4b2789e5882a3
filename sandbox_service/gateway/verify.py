"""Answer verification: many (answer, reference) pairs as few calls of `deploy/programs/verify.py`, and their verdicts.

What a pair costs is bounded in the jail, pair by pair. A call that is ended all the same, by its own limits, has told
the verdicts until there, and the pairs behind them go on in another one: no answer costs another one its verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter, ValidationError

from sandbox_service.gateway.attend import results
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.programs import program
from sandbox_service.models import Batch, Call, Checked, Checks, CheckStatus, Limits, Result, Status

CALL_PAIRS = 64
CALL_BYTES = 4 << 20
"""A call takes at most so many pairs, and so many bytes of them, or one pair."""
_LIMITS = Limits(wall_s=60, cpu_s=60, memory_mb=1536)
_LINE: TypeAdapter[tuple[CheckStatus, bool | None]] = TypeAdapter(tuple[CheckStatus, bool | None])

Pair = tuple[str, str]


async def verify(calls: Calls, tenant: str, asked: Checks, *, arrived: float) -> list[Checked]:
    """Return a verdict for each check, in order. Raise what Calls.admit_batch raises.

    `arrived`: when the request did (time.monotonic), from where its `timeout_s` counts.
    """
    pairs = [(check.answer, check.reference) for check in asked.checks]
    verdicts: dict[Pair, Checked] = {}
    portions = [*_portions(list(dict.fromkeys(pairs)))]
    while portions:
        batch = Batch(calls=[_call(portion, asked) for portion in portions])
        _, wait = await calls.admit_batch(tenant, batch, arrived=arrived)
        left = []
        for portion, body in zip(portions, await results(wait), strict=True):
            found = _read(Result.model_validate_json(body), len(portion))
            verdicts.update(zip(portion, found, strict=False))
            left.append(portion[len(found) :])
        portions = [portion for portion in left if portion]
    return [verdicts[pair] for pair in pairs]


def _portions(pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
    start = size = 0
    for index, pair in enumerate(pairs):
        length = len(_line(pair))
        if index - start == CALL_PAIRS or (index > start and size + length > CALL_BYTES):
            yield pairs[start:index]
            start, size = index, 0
        size += length
    yield pairs[start:]


def _call(pairs: Sequence[Pair], asked: Checks) -> Call:
    lines = "".join(map(_line, pairs))
    args = [str(asked.limit_s)]
    return Call(code=program("verify"), args=args, stdin=lines, timeout_s=asked.timeout_s, limits=_LIMITS)


def _line(pair: Pair) -> str:
    return json.dumps(pair) + "\n"


def _read(result: Result, count: int) -> list[Checked]:
    """Return the verdicts of a call: at least one, and one for each of `count` pairs unless it was ended before.

    SECURITY: the lines come from a jail; they are taken for what they say of this request's own pairs, no more
    (tests/gateway/test_verify.py: `test_a_call_that_says_nonsense_judges_nothing`).
    """
    found = _told(result.stdout.split("\n")[:-1], count)  # the last one may be cut
    if len(found) == count:
        return found
    if result.status in (Status.OUT_OF_MEMORY, Status.SIGNALED) or result.limit == "cpu":
        # The limits of a call end what those of its pairs let through: at the first place, it was this pair.
        word = CheckStatus.TIMED_OUT if result.limit == "cpu" else CheckStatus.TOO_LARGE
        return found or [Checked(status=word, correct=False)]
    if result.status is Status.TIMED_OUT and found:
        return found
    is_late = result.status in (Status.EXPIRED, Status.CANCELLED)
    missing = Checked(status=CheckStatus.EXPIRED if is_late else CheckStatus.INFRA_ERROR)
    return found + [missing] * (count - len(found))


def _told(lines: Sequence[str], count: int) -> list[Checked]:
    try:
        told = [_LINE.validate_json(line) for line in lines[:count]]
    except ValidationError:
        return []
    return [Checked(status=status, correct=correct) for status, correct in told]
