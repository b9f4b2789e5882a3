"""Eq. 4 and 5, worked out by hand."""

from __future__ import annotations

import pytest

from sandbox_service.models import Status
from sandbox_service.trainer.records import PARSE_ERROR, Problem, Rollout, StopReason, ToolUse
from sandbox_service.trainer.rewards import ERRORS, p_err, p_format, p_total


@pytest.mark.parametrize(
    ("outcomes", "penalty"),
    [
        ([], 0.5),
        (["ok"], 0.0),
        (["failed"], 1.0),
        (["ok", "timed_out"], 0.5),
        ([PARSE_ERROR, "ok", "ok", "ok"], 0.25),
        (["signaled", "out_of_memory", "output_limit"], 1.0),
    ],
)
def test_p_err(outcomes: list[str], penalty: float) -> None:
    assert p_err(outcomes) == penalty


@pytest.mark.parametrize(
    ("answers", "turns", "penalty"),
    [(0, 3, 1.0), (1, 1, 0.0), (1, 4, 0.0), (2, 4, 0.25), (2, 1, 1.0), (4, 2, 1.0)],
)
def test_p_format_counts_the_first_assistant_turn_too(answers: int, turns: int, penalty: float) -> None:
    """The released code counts one turn less: a single turn with one answer would get 1, four turns with two 1/3."""
    assert p_format(answers, turns) == penalty


def test_every_status_is_sorted_into_error_or_not() -> None:
    innocent = {Status.OK, Status.EXPIRED, Status.CANCELLED, Status.INFRA_ERROR}
    assert {status.value for status in set(Status) - innocent} | {PARSE_ERROR} == ERRORS


def test_the_total_is_the_sum() -> None:
    tools = [ToolUse("ok"), ToolUse("failed")]
    rollout = Rollout(0, 0, 0, Problem("?", "1", "x"), tools=tools, turns=4, answers=2)
    assert p_total(rollout) == 0.75


def test_a_rollout_survives_json_bit_by_bit() -> None:
    rollout = Rollout(1, 2, 3, Problem("?", "1", "x"), tools=[ToolUse("ok", 0.1, 0.2)], stop=StopReason.TURNS)
    rollout.append([1, 2])
    rollout.append([3], [-0.1 - 1e-17])
    assert Rollout.from_json(rollout.to_json()) == rollout
    assert (rollout.mask, rollout.sampled) == ([0, 0, 1], 1)
