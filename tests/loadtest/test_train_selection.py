"""The model of what a choice of rollouts does, and the table of what journals show."""

from __future__ import annotations

import json
import random
from pathlib import Path
from statistics import fmean

import pytest

from loadtest.train_selection import (
    FAILS,
    GUESS,
    RUNS,
    Curve,
    Habit,
    _gradient,
    _sigmoid,
    _softmax,
    learned_from,
    measured,
    predict,
)
from sandbox_service.trainer.records import Problem, Rollout, ToolUse


def test_habits_begin_at_the_shares_of_the_traces() -> None:
    """lcm: 0.08 right, 0.27 repaired, 0.40 wrong, 0.15 guessed, 0.10 untidy (half of them a call that fails)."""
    habit = learned_from("lcm", linked=True)
    assert _softmax(habit.first) == pytest.approx([0.53, 0.32, 0.15])
    assert _sigmoid(habit.right[RUNS]) == pytest.approx(0.13 / 0.53)
    assert _sigmoid(habit.right[FAILS]) == pytest.approx(0.98)
    free = learned_from("lcm", linked=False)
    assert [_sigmoid(logit) for logit in free.right] == pytest.approx([0.35 / 0.75] * 2)


def test_the_gradient_is_worked_out_by_hand() -> None:
    """Two right, two wrong, all kept: advantages are 0.5 / 0.57735; the odds are even."""
    habit = Habit([0.0, 0.0, 0.0], [0.0, 0.0])
    first, after = _gradient(habit, [RUNS, FAILS, GUESS, RUNS], [1.0, 1.0, 0.0, 0.0], "all", random.Random(0))
    unit = 0.5 / 0.57735 / 4
    assert first == pytest.approx([0.0, unit, -unit], abs=1e-4)
    assert after == pytest.approx([unit * 0.5 + unit * 0.5, unit * 0.5], abs=1e-4)


def test_the_link_alone_turns_what_grpo_learns_around() -> None:
    """As the traces are, failing first pays: GRPO's errors grow. Without the link they fall; RoC has fewer in both."""

    def errors(rule: str, *, linked: bool) -> tuple[float, float]:
        curves = [predict(rule, seed, linked=linked) for seed in range(4)]  # type: ignore[arg-type]
        return fmean(curve.errors[0] for curve in curves), fmean(curve.errors[-1] for curve in curves)

    (before, after), (free_before, free_after) = errors("all", linked=True), errors("all", linked=False)
    assert after > before > 0.3
    assert free_after < free_before / 2
    assert errors("roc", linked=True)[1] < 0.9 * after
    assert errors("roc", linked=False)[1] < 0.5 * free_after


def test_accuracy_is_matched_as_on_the_page() -> None:
    assert Curve([0.4, 0.8, 0.8, 0.8, 0.8, 0.8, 0.9], [0.0] * 7).matched() == 5
    assert Curve([0.1] * 7, [0.0] * 7).matched() is None


def rollout(number: int, reward: float, *outcomes: str) -> str:
    made = Rollout("1", 0, number, Problem("?", "1", "lcm"), turns=2, answers=1, reward=reward)
    made.tools = [ToolUse(outcome) for outcome in outcomes]
    return json.dumps({"rollout": made.to_json()})


def test_a_row_tells_what_there_was_to_choose_from(tmp_path: Path) -> None:
    """One group: two right (one clean, one repaired), one wrong after a call that ran, one guess."""
    journal = tmp_path / "roc-0" / "journal" / "1.jsonl"
    journal.parent.mkdir(parents=True)
    lines = [rollout(0, 1.0, "ok"), rollout(1, 1.0, "failed", "ok"), rollout(2, 0.0, "ok"), rollout(3, 0.0)]
    journal.write_text("\n".join(lines) + "\n")
    cells = measured(tmp_path).splitlines()[-1].split("|")[2:-1]
    right, errors, with_error, failed, right_if_so, right_if_ran, choice, played, _, topk = map(float, cells)
    assert (right, errors, with_error) == (0.5, 0.33, 0.5)
    assert (failed, right_if_so, right_if_ran, choice) == (0.25, 1.0, 0.5, 1.0)
    assert (played, topk) == (0.33, 0.0)
