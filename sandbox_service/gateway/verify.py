"""Answer verification: many (answer, reference) pairs to few calls of `deploy/programs/verify.py`, and their verdicts.

What a pair costs is bounded in the jail, pair by pair. A call that is ended all the same (its own limits) has told the
verdicts until there; the pairs behind them go on in another call, so that no answer costs another one its verdict.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter, ValidationError

from sandbox_service.gateway.attend import results
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.programs import program
from sandbox_service.models import Batch, Call, Check, Checked, CheckStatus, Limits, Result, Status

CALL_CHECKS = 64
CALL_BYTES = 4 << 20
"""A call takes at most so many checks, and so many bytes of them."""
_MEMORY_MB = 1536
_WALL_S = 60.0
_OUT_OF_CPU = (Status.TIMED_OUT, "cpu")
_LINE: TypeAdapter[tuple[CheckStatus, bool | None]] = TypeAdapter(tuple[CheckStatus, bool | None])


class Verifier:
    """Checks answers for one gateway."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def verify(
        self, tenant: str, checks: Sequence[Check], *, limit_s: float, timeout_s: float | None, arrived: float
    ) -> list[Checked]:
        """Return a verdict for each of `checks`, in order. Raise what Calls.admit_batch raises.

        `limit_s`: CPU seconds for each; `timeout_s`: for all of them together, from `arrived` (time.monotonic) on.
        """
        verdicts: list[Checked | None] = [None] * len(checks)
        portions = [*_portions(checks)]
        while portions:
            batch = Batch(calls=[_call([checks[index] for index in part], limit_s, timeout_s) for part in portions])
            _, wait = await self._calls.admit_batch(tenant, batch, arrived=arrived)
            bodies = await results(wait)
            left = []
            for part, body in zip(portions, bodies, strict=True):
                found = _read(Result.model_validate_json(body), len(part))
                for index, verdict in zip(part, found, strict=False):
                    verdicts[index] = verdict
                left.append(part[len(found) :])
            portions = [part for part in left if part]
        return [verdict for verdict in verdicts if verdict is not None]


def _portions(checks: Sequence[Check]) -> Iterator[list[int]]:
    portion: list[int] = []
    size = 0
    for index, check in enumerate(checks):
        length = len(check.answer) + len(check.reference)
        if portion and (len(portion) == CALL_CHECKS or size + length > CALL_BYTES):
            yield portion
            portion, size = [], 0
        portion.append(index)
        size += length
    yield portion


def _call(checks: Sequence[Check], limit_s: float, timeout_s: float | None) -> Call:
    lines = "".join(json.dumps([check.answer, check.reference], ensure_ascii=False) + "\n" for check in checks)
    limits = Limits(wall_s=_WALL_S, cpu_s=_WALL_S, memory_mb=_MEMORY_MB)
    return Call(code=program("verify"), args=[str(limit_s)], stdin=lines, timeout_s=timeout_s, limits=limits)


def _read(result: Result, count: int) -> list[Checked]:
    """Return the verdicts of a call: at least one, and one for each of `count` pairs unless it was ended before.

    SECURITY: the lines come from a jail; they are taken for what they say of this request's own pairs, no more.
    """
    lines = [] if result.status is Status.INFRA_ERROR else result.stdout.split("\n")[:-1]  # the last one may be cut
    try:
        told = [_LINE.validate_json(line) for line in lines[:count]]
    except ValidationError:
        told = []
    found = [Checked(status=status, correct=correct) for status, correct in told]
    if len(found) == count:
        return found
    if result.status in (Status.OUT_OF_MEMORY, Status.SIGNALED) or (result.status, result.limit) == _OUT_OF_CPU:
        # The limits of a call end what those of its pairs let through: at the first place, it was this pair.
        status = CheckStatus.TIMED_OUT if result.limit == "cpu" else CheckStatus.TOO_LARGE
        return found or [Checked(status=status, correct=False)]
    if result.status is Status.TIMED_OUT and found:
        return found
    is_late = result.status in (Status.EXPIRED, Status.CANCELLED)
    missing = Checked(status=CheckStatus.EXPIRED if is_late else CheckStatus.INFRA_ERROR)
    return found + [missing] * (count - len(found))
