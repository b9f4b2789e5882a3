"""What `sandbox-service eval` reads, and its protocol; `tests/e2e/test_eval.py` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_service.commands.parser import parser
from sandbox_service.errors import SetupError
from sandbox_service.integrations import evaluate
from sandbox_service.trainer.recipe import RSTAR2_14B

SHARED = Path(__file__).parents[3] / "shared/data"
"""Where the evaluation sets lie, beside the repository; they are not part of it."""


@pytest.mark.parametrize(("name", "rows"), [("aime24", 30), ("aime25", 30), ("math500", 500)])
def test_the_papers_sets_are_read(name: str, rows: int) -> None:
    file = SHARED / f"{name}.jsonl"
    if not file.exists():
        pytest.skip(f"{file} is not here")
    questions = evaluate.load(file)
    assert len({question.id for question in questions}) == len(questions) == rows
    assert all(question.text and question.answer for question in questions)


def test_the_papers_protocol_is_the_default() -> None:
    options, paper = parser().parse_args(["eval", "--data", "x"]), RSTAR2_14B.evaluation
    assert (options.samples, options.temperature, options.max_tokens, options.turns) == (
        paper.samples,
        paper.temperature,
        paper.max_tokens,
        paper.turns,
    )


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
