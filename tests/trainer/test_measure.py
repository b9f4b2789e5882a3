"""What is told of steps and evaluations, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from sandbox_service.trainer.measure import by_family, describe, describe_kept, interval, scores
from sandbox_service.trainer.records import Problem, Rollout, StopReason, ToolUse


def rollout(reward: float, *outcomes: str, family: str = "x", answers: int = 1, wait_s: float = 0.0) -> Rollout:
    found = Rollout("1", 0, 0, Problem("?", "1", family), turns=1 + len(outcomes), answers=answers, reward=reward)
    found.append([1, 2, 3])
    found.append([4, 5], [-1.0, -1.0])
    found.tools = [ToolUse(outcome, wait_s, wait_s / 2) for outcome in outcomes]
    return found


GROUPS = [
    [rollout(1.0, "ok", "failed", wait_s=0.2), rollout(0.0, "timed_out", wait_s=0.4)],
    [rollout(1.0, "ok", "ok", wait_s=0.2), rollout(0.0, answers=0, family="y")],
]


def test_a_step_in_figures() -> None:
    GROUPS[1][1].stop = StopReason.LENGTH
    told = describe(GROUPS)
    assert told["reward"] == 0.5
    assert told["errors_in_right"] == 0.25  # one of the four calls of right rollouts
    assert told["errors"] == 0.4  # two of all five
    assert (told["calls"], told["turns"], told["tokens"], told["answers"]) == (1.25, 2.25, 2.0, 0.75)
    assert told["waited_s"] == pytest.approx((0.4 + 0.4 + 0.4) / 4)
    assert told["service_mean_s"] == pytest.approx((4 * 0.1 + 0.2) / 5)
    assert told["service_p99_s"] == pytest.approx(0.2)
    assert (told["stop_done"], told["stop_length"], told["stop_turns"]) == (3, 1, 0)
    assert told["outcomes"] == {"ok": 3, "failed": 1, "timed_out": 1}


def test_what_is_trained_on_is_told_apart() -> None:
    told = describe_kept([GROUPS[1]])
    assert told == {"kept_errors_in_right": 0.0, "kept_calls": 1.0, "kept_answers": 0.5}
    assert describe_kept([])["kept_calls"] == 0.0  # no group had a signal


def test_means_by_problem_and_by_family() -> None:
    assert scores(GROUPS) == [0.5, 0.5]
    assert by_family(GROUPS) == {"x": 2 / 3, "y": 0.0}


def test_the_interval_has_the_width_of_the_law_of_means() -> None:
    """Of 400 problems, half of them right: 0.5 +- 1.96 * 0.5 / 20; and of no spread, none."""
    low, high = interval([0.0, 1.0] * 200)
    assert (low, high) == (pytest.approx(0.451, abs=0.008), pytest.approx(0.549, abs=0.008))
    assert interval([0.3] * 50) == (pytest.approx(0.3), pytest.approx(0.3))
