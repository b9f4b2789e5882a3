"""What `sandbox-service eval` reads; its run against a scripted model server is still to be tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_service.errors import SetupError
from sandbox_service.integrations import evaluate


def test_gpqa_is_read_as_multiple_choice(tmp_path: Path) -> None:
    file = tmp_path / "gpqa.csv"
    file.write_text(
        "Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n"
        + "".join(f"Question {number}?,right,a,b,c\n" for number in range(8))
    )
    questions = evaluate.load(file)
    assert len({question.answer for question in questions}) > 1
    for question in questions:
        assert f"({question.answer}) right" in question.text


def test_a_row_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"problem": "x", "answer": "1"}\n{"problem": "x"}\n')
    with pytest.raises(SetupError, match=r"rows.jsonl:2"):
        evaluate.load(file)
