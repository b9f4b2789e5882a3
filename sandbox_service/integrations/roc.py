"""RoC over the groups of one batch, and what it did, as figures: what verl's and TRL's adapters have in common."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sandbox_service.trainer.roc import Selection, select


@dataclass(frozen=True)
class Candidate:
    """One rollout of a group: its reward and the `facts` of its episode."""

    reward: float
    facts: Mapping[str, Any]

    @property
    def penalty(self) -> float:
        return float(self.facts["p_err"]) + float(self.facts["p_format"])


def choose(
    groups: Mapping[str, Sequence[Candidate]], how: Selection, seed: str
) -> tuple[dict[str, list[int]], dict[str, float]]:
    """Return for each group that has a signal the indices to train on, and the metrics.

    A group is kept or dropped whole; the draw depends on `seed` and the group's name alone.
    """
    kept: dict[str, list[int]] = {}
    for name, group in groups.items():
        chosen = select(
            [one.reward for one in group], [one.penalty for one in group], how, random.Random(f"{seed}/{name}")
        )
        if chosen is not None:
            kept[name] = chosen
    before = [one for group in groups.values() for one in group]
    after = [groups[name][index] for name, chosen in kept.items() for index in chosen]
    metrics = {
        "roc/groups": float(len(groups)),
        "roc/groups_without_signal": float(len(groups) - len(kept)),
        "roc/rollouts": float(len(before)),
        "roc/rollouts_kept": float(len(after)),
        "roc/accuracy": fmean(one.reward for one in before) if before else 0.0,
        "roc/errors_in_positives": _errors(before),
        "roc/errors_in_positives_kept": _errors(after),
    }
    return kept, metrics


def _errors(rollouts: Sequence[Candidate]) -> float:
    """The paper's figure 4: the share of failed calls among those of correct rollouts, a mean over rollouts."""
    found = [float(one.facts["p_err"]) for one in rollouts if one.reward > 0 and one.facts["outcomes"]]
    return fmean(found) if found else 0.0
