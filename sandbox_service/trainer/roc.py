"""RoC, resampling on correct (paper 2.2.2): of the 2G rollouts of a group, the G that are trained on.

Negatives keep their distribution: floor(n/2) of them, uniformly. Positives fill the rest, drawn without replacement
with probability proportional to 1 / (p_total + epsilon), so that correct rollouts with failed calls or untidy answers
are seldom learned from. The paper leaves open what 1/0 is; `epsilon` decides that and is the strength of the method:
at 0.05 a clean rollout is preferred 11 to 1 over one with half of its calls failed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Rule = Literal["roc", "topk", "uniform", "all"]


@dataclass(frozen=True)
class Selection:
    """How a group is down-sampled."""

    keep: int
    """G."""
    rule: Rule = "roc"
    """roc: the paper. topk: the authors' released code, the positives with the lowest penalty. uniform: the control,
    the same numbers of each kind, positives at random. all: plain GRPO, nothing is left out."""
    epsilon: float = 0.05
    at_least: int = 1
    """Of each kind, where there are so many. 1: a group with one wrong rollout keeps its signal (floor(1/2) is 0).
    0 is the paper to the letter, 2 the authors' code."""


def select(
    rewards: Sequence[float], penalties: Sequence[float], how: Selection, rng: random.Random
) -> list[int] | None:
    """Return the indices to train on, ascending; None if their rewards are all equal (no signal: the group is dropped).

    `rewards` are 0 or 1, one per rollout that is left: infra errors may have made the group smaller than 2G, and then
    half of what is left is kept (rounded up), at most G.
    """
    positives = [index for index, reward in enumerate(rewards) if reward > 0]
    negatives = [index for index, reward in enumerate(rewards) if reward <= 0]
    if not positives or not negatives:
        return None
    if how.rule == "all":
        return list(range(len(rewards)))
    keep = min(how.keep, math.ceil(len(rewards) / 2))
    wrong = _wrong(len(positives), len(negatives), keep, how.at_least)
    right = keep - wrong
    if not right or not wrong:
        return None
    kept_wrong = rng.sample(negatives, wrong)
    if how.rule == "roc":
        kept_right = _weighted(positives, penalties, how.epsilon, right, rng)
    elif how.rule == "topk":
        kept_right = sorted(positives, key=lambda index: penalties[index])[:right]
    else:
        kept_right = rng.sample(positives, right)
    return sorted(kept_right + kept_wrong)


def _wrong(positives: int, negatives: int, keep: int, at_least: int) -> int:
    """How many negatives to keep: floor(n/2), and at least `at_least` of each kind as far as both exist."""
    wrong = max(negatives // 2, min(at_least, negatives))
    wrong = min(wrong, keep - min(at_least, positives, keep))
    return max(wrong, keep - positives)


def _weighted(
    candidates: Sequence[int], penalties: Sequence[float], epsilon: float, count: int, rng: random.Random
) -> list[int]:
    """Draw one after the other without replacement, with weights 1 / (penalty + epsilon).

    By keys (Efraimidis and Spirakis 2006): the largest log(u) / weight follow exactly that law.
    """
    keys = {index: math.log(1.0 - rng.random()) * (penalties[index] + epsilon) for index in candidates}
    return sorted(candidates, key=lambda index: keys[index], reverse=True)[:count]
