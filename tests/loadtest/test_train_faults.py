"""What the run under faults tells, from journals and curves made up by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.train_faults import CALM, FAULTY, facts, judge
from tests.loadtest.test_train_page import RISING, run


def journal(folder: Path, *uses: tuple[str, int]) -> None:
    (folder / "journal").mkdir()
    rollouts = [{"rollout": {"tools": [{"outcome": outcome, "attempts": attempts}]}} for outcome, attempts in uses]
    lines = [*rollouts, {"lost": ["1", 0, 9], "why": "x"}, {"complete": True}]
    (folder / "journal" / "1.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize(
    ("uses", "after", "fine"),
    [
        ([("ok", 1), ("failed", 2)], 0.5, True),
        ([("ok", 1), ("failed", 1)], 0.5, False),  # no kill struck a call: nothing was shown
        ([("ok", 2), ("infra_error", 2)], 0.5, False),  # our fault was taken for the code's
        ([("ok", 1), ("failed", 2)], 0.3, False),  # the curve was bent
    ],
)
def test_what_bends_the_curve_is_told(tmp_path: Path, uses: list[tuple[str, int]], after: float, *, fine: bool) -> None:
    journal(tmp_path, *uses)
    told = facts(tmp_path)
    assert (told["rollouts"], told["lost"], told["calls"]) == (2, 1, 2)
    runs = {CALM: run(RISING, [0.1] * 7, [0.5] * 40), FAULTY: run(RISING, [0.1] * 7, [after] * 40)}
    text, found = judge(runs, told, 3)
    assert found is fine
    assert "3 workers were killed" in text
