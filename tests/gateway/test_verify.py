"""How verdicts are read from calls that did not end as planned; the jail's program itself is in tests/e2e."""

from __future__ import annotations

import json

import pytest

from sandbox_service.gateway.verify import CALL_PAIRS, _portions, _read
from sandbox_service.models import Checked, CheckStatus, Result, Status

OK = Checked(status=CheckStatus.OK, correct=True)
LINE = json.dumps(["ok", True]) + "\n"
TIMED_OUT = Checked(status=CheckStatus.TIMED_OUT, correct=False)
TOO_LARGE = Checked(status=CheckStatus.TOO_LARGE, correct=False)
EXPIRED = Checked(status=CheckStatus.EXPIRED)
INFRA = Checked(status=CheckStatus.INFRA_ERROR)


@pytest.mark.parametrize(
    ("status", "limit", "stdout", "verdicts"),
    [
        (Status.OK, None, LINE * 3, [OK] * 3),
        (Status.TIMED_OUT, "cpu", LINE, [OK]),
        (Status.TIMED_OUT, "cpu", "", [TIMED_OUT]),
        (Status.TIMED_OUT, "wall", LINE * 2 + '["ok', [OK, OK]),
        (Status.TIMED_OUT, "wall", "", [INFRA] * 3),
        (Status.OUT_OF_MEMORY, "memory", "", [TOO_LARGE]),
        (Status.SIGNALED, None, LINE, [OK]),
        (Status.EXPIRED, None, "", [EXPIRED] * 3),
        (Status.CANCELLED, "deadline", LINE, [OK, EXPIRED, EXPIRED]),
        (Status.INFRA_ERROR, None, "", [INFRA] * 3),
        (Status.FAILED, None, "Traceback\n", [INFRA] * 3),
        (Status.OK, None, LINE, [OK, INFRA, INFRA]),
    ],
)
def test_what_a_call_told_stands(status: Status, limit: str | None, stdout: str, verdicts: list[Checked]) -> None:
    """Pairs behind the last line told are asked again, are late, or are our fault: never wrong answers."""
    result = Result.model_validate({"id": "x", "status": status, "limit": limit, "stdout": stdout})
    assert _read(result, 3) == verdicts


@pytest.mark.parametrize("stdout", ["[1]\n" * 3, '["yes", true]\n' * 3, "{}\n" * 3, '["ok", "true?"]\n' * 3, "\n" * 3])
def test_a_call_that_says_nonsense_judges_nothing(stdout: str) -> None:
    assert _read(Result(id="x", status=Status.OK, stdout=stdout), 3) == [INFRA] * 3


def test_portions_hold_every_pair_once_and_in_order() -> None:
    """By number and by size; a pair that is larger than a portion is one of its own."""
    small, large = ("1", "2"), ("x" * (5 << 20), "")
    pairs = [small] * (CALL_PAIRS + 1) + [large, large] + [small] * 3
    portions = [*_portions(pairs)]
    assert [pair for portion in portions for pair in portion] == pairs
    assert [len(portion) for portion in portions] == [CALL_PAIRS, 1, 1, 1, 3]
