"""What a rollout is worth, and how untidy it was: the answer-only reward (Eq. 3) and the penalties of RoC (Eq. 4, 5).

The penalties never enter the reward; `roc.py` selects by them. What counts as an error is decided by the structured
status of a call, never by its text: a program that prints "error" is fine, one that timed out is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from sandbox_service.models import Status
from sandbox_service.trainer.records import PARSE_ERROR, Rollout

ERRORS = frozenset(
    {
        PARSE_ERROR,
        Status.FAILED.value,
        Status.SIGNALED.value,
        Status.TIMED_OUT.value,
        Status.OUT_OF_MEMORY.value,
        Status.OUTPUT_LIMIT.value,
    }
)
"""Outcomes that are the code's fault. Truncated output is none, and an `infra_error` never gets here."""
NO_CALL_PENALTY = 0.5


def p_err(outcomes: Sequence[str]) -> float:
    """Eq. 4: the share of tool calls that failed; 0.5 without a call."""
    if not outcomes:
        return NO_CALL_PENALTY
    return sum(outcome in ERRORS for outcome in outcomes) / len(outcomes)


def p_format(answers: int, turns: int) -> float:
    """Eq. 5: 1 without an `<answer>` tag, else min(1, (answers - 1) / turns)."""
    return 1.0 if answers == 0 else min(1.0, (answers - 1) / turns)


def p_total(rollout: Rollout) -> float:
    """In [0, 2]; 0 is a clean rollout."""
    return p_err([use.outcome for use in rollout.tools]) + p_format(rollout.answers, rollout.turns)
