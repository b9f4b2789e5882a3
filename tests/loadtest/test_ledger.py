"""The ledger sees what it is there to see: each kind of failure, fed to it by hand, is counted as that kind."""

from __future__ import annotations

import json
from collections import Counter

from loadtest.ledger import Ledger, executions, expected
from sandbox_service.errors import Unavailable
from sandbox_service.models import Result, Status


def result(call_id: str, value: str, *, nonce: str = "n", attempts: int = 1, **fields: object) -> Result:
    return Result(id=call_id, status=Status.OK, stdout=f"{value} {nonce}\n", attempts=attempts).model_copy(
        update=fields
    )


def opened(count: int) -> tuple[Ledger, list[str]]:
    ledger = Ledger([], run="t")
    return ledger, [str(ledger.open().id) for _ in range(count)]


def log(call_id: str, event: str = "execution started") -> str:
    return json.dumps({"event": event, "call": call_id})


def test_a_clean_book() -> None:
    ledger, [a] = opened(1)
    ledger.close(a, result(a, expected(a)))
    ledger.compare(a, result(a, expected(a)))
    ledger.audit([log(a)])
    tally = ledger.tally()
    assert (tally.failures, tally.calls, ledger.in_flight) == ([], 1, 0)


def test_each_failure_is_its_own_kind() -> None:
    ledger, [silent, refused, wrong, foreign, other_id, twice, failed] = opened(7)
    ledger.close(refused, Unavailable("gone for good"))
    ledger.close(wrong, result(wrong, "1"))
    ledger.close(foreign, result(foreign, expected(wrong)))
    ledger.close(other_id, result(silent, expected(silent)))
    ledger.close(twice, result(twice, expected(twice)))
    ledger.compare(twice, result(twice, expected(twice), nonce="another execution"))
    ledger.close(failed, result(failed, "", status=Status.SIGNALED))
    tally = ledger.tally()
    assert [len(kind) for kind in (tally.lost, tally.wrong, tally.foreign, tally.duplicated)] == [2, 2, 2, 1]


def test_a_status_is_excused_only_as_often_as_the_fault_accounts_for() -> None:
    ledger, ids = opened(3)
    for each in ids:
        ledger.close(each, result(each, "", status=Status.SIGNALED))
    assert len(ledger.tally(Counter(signaled=2)).wrong) == 1


def test_an_execution_that_no_attempt_tells_of_is_a_duplicate() -> None:
    """One that was given back, and one after a fault of ours, are told of."""
    ledger, [secret, given_back, retried] = opened(3)
    ledger.close(secret, result(secret, expected(secret)))
    ledger.close(given_back, result(given_back, expected(given_back)))
    ledger.close(retried, result(retried, expected(retried), attempts=2))
    logs = [log(each) for each in (secret, given_back, retried)] * 2
    ledger.audit([*logs, log(given_back, "execution given back"), "not JSON"])
    assert [sentence.split()[0] for sentence in ledger.tally().duplicated] == [secret]
    assert executions(logs)[secret] == 2
