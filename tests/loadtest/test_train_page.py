"""The page of the comparison: what is held against which bar, from made-up curves."""

from __future__ import annotations

from typing import Any

from loadtest.train_page import Run, bars, page, svg_of


def run(rewards: list[float], errors: list[float], scores: list[float] | None = None, **evaluations: float) -> Run:
    steps: list[dict[str, Any]] = [
        {"step": step, "reward": reward, "errors_in_right": ratio}
        for step, (reward, ratio) in enumerate(zip(rewards, errors, strict=True), 1)
    ]
    found: dict[str, dict[str, Any]] = {name: {"mean": mean} for name, mean in evaluations.items()}
    if scores is not None:
        found["1"] = {"mean": sum(scores) / len(scores), "interval": (0.0, 1.0), "scores": scores}
    return Run(steps, found)


RISING = [0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.9]


def test_errors_are_compared_at_matched_accuracy_and_at_the_end() -> None:
    """Matched: the sixth step, the first whose last five mean 0.8."""
    ours = run(RISING, [0.9, 0.9, 0.9, 0.9, 0.9, 0.10, 0.01], [1.0, 1.0])
    theirs = run(RISING, [0.9, 0.9, 0.9, 0.9, 0.9, 0.20, 0.05], [1.0, 0.9])
    assert ours.matched() == ours.steps[5]
    found = {(bar, where): (measured, holds) for bar, where, measured, holds in bars({"roc-0": ours, "grpo-0": theirs})}
    assert found["tool errors at 80 %: at most 1/2 of grpo's", "seed 0"] == ("0.100 to 0.200", True)
    assert found["tool errors at 80 %: at most 1/3 of grpo's", "pooled"] == ("0.50", False)
    assert found["tool errors at the last step: at most 1/3 of grpo's", "pooled"] == ("0.20", True)
    measured, holds = found["accuracy within 3 points of grpo's", "seed 0"]
    assert (measured.startswith("+5.0"), holds) == (True, False)


def test_a_control_that_learns_is_told() -> None:
    runs = {"shuffled-0": run(RISING, [0.5] * 7, [0.4, 0.4], sft=0.34)}
    assert [bar[-1] for bar in bars(runs)] == [False]
    assert "| shuffled rewards: not above SFT + 5 points | seed 0 | 34.0% to 40.0% | NO |" in page(runs)


def test_what_is_not_there_yet_is_not_judged() -> None:
    """Neither an unfinished run nor one that never reached the accuracy."""
    slow = run([0.1] * 7, [0.5] * 7, [0.1])
    assert slow.matched() is None
    unfinished = run(RISING, [0.0] * 7)
    assert not list(bars({"roc-0": unfinished, "grpo-0": slow}))
    text = page({"roc-0": unfinished, "grpo-0": slow})
    assert "not reached" in text
    assert svg_of({"roc-0": unfinished, "grpo-0": slow}).startswith("<svg")
