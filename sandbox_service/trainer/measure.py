"""What is told of a step and of an evaluation. Pure functions of rollouts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sandbox_service.trainer.groups import Group
from sandbox_service.trainer.records import Rollout, StopReason
from sandbox_service.trainer.rewards import ERRORS

_RESAMPLES = 2000


def describe(groups: Sequence[Group]) -> dict[str, Any]:
    """Means over rollouts; the tool-error ratio is over the calls of correct rollouts (the paper's figure 4)."""
    rollouts = [rollout for group in groups for rollout in group]
    right = [rollout for rollout in rollouts if rollout.reward > 0]
    uses = [use for rollout in rollouts for use in rollout.tools]
    stops = Counter(rollout.stop.value for rollout in rollouts)
    ran = sorted(use.service_s for use in uses if use.service_s)
    return {
        "reward": _mean([rollout.reward for rollout in rollouts]),
        "errors_in_right": error_ratio(right),
        "errors": error_ratio(rollouts),
        "calls": len(uses) / max(1, len(rollouts)),
        "turns": _mean([rollout.turns for rollout in rollouts]),
        "tokens": _mean([rollout.sampled for rollout in rollouts]),
        "answers": _mean([rollout.answers for rollout in rollouts]),
        "waited_s": _mean([sum(use.wait_s for use in rollout.tools) for rollout in rollouts]),
        "service_mean_s": _mean(ran),
        "service_p99_s": ran[min(len(ran) - 1, len(ran) * 99 // 100)] if ran else 0.0,
        **{f"stop_{reason.value}": stops[reason.value] for reason in StopReason},
        "outcomes": dict(Counter(use.outcome for use in uses)),
    }


def describe_kept(kept: Sequence[Group]) -> dict[str, float]:
    """The same of what is trained on: how much tidier the selection is than what was played."""
    right = [rollout for group in kept for rollout in group if rollout.reward > 0]
    return {
        "kept_errors_in_right": error_ratio(right),
        "kept_calls": _mean([len(rollout.tools) for group in kept for rollout in group]),
        "kept_answers": _mean([rollout.answers for group in kept for rollout in group]),
    }


def error_ratio(rollouts: Sequence[Rollout]) -> float:
    """Failed calls among all calls of these rollouts; 0 without a call."""
    outcomes = [use.outcome for rollout in rollouts for use in rollout.tools]
    return sum(outcome in ERRORS for outcome in outcomes) / max(1, len(outcomes))


def by_family(groups: Sequence[Group]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for group in groups:
        for rollout in group:
            found.setdefault(rollout.problem.family, []).append(rollout.reward)
    return {family: _mean(rewards) for family, rewards in sorted(found.items())}


def interval(scores: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """A bootstrap interval (percentiles) of the mean over problems; `scores` are means of one problem each."""
    rng = random.Random("bootstrap")
    means = sorted(_mean(rng.choices(scores, k=len(scores))) for _ in range(_RESAMPLES))
    cut = round((1 - level) / 2 * _RESAMPLES)
    return means[cut], means[-cut - 1]


def scores(groups: Sequence[Group]) -> list[float]:
    """The mean reward of each problem."""
    return [_mean([rollout.reward for rollout in group]) for group in groups]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
