"""Requests made from the OpenAPI document; `python -m loadtest.fuzz` makes as many as one likes."""

from __future__ import annotations

from pathlib import Path

from loadtest import fuzz
from tests.security.harness import Target


def test_no_request_is_answered_by_a_fault_or_otherwise_than_described(target: Target, tmp_path: Path) -> None:
    """Some hundred requests: no 5xx, no answer that the document lacks, none that its schema does not fit."""
    schema = fuzz.prepare(target.url, str(tmp_path))
    cases, complaint = fuzz.run_round(target.url, schema, seed=1, phases="examples,fuzzing,stateful", examples=10)
    assert complaint == ""
    assert cases >= 100
