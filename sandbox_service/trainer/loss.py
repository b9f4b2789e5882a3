"""Advantages and the token-level clip-higher loss of GRPO-RoC (Eq. 6 and 7), without KL and entropy terms.

    J = mean over groups of 1/(sum_i |o_i|) sum_i sum_t min(rho A, clip(rho, 1 - low, 1 + high) A)

over the G selected rollouts of each group, rho the ratio to the log-probabilities that were sampled with. Only tokens
the policy sampled count: neither the prompt nor what tools wrote. Pure functions of tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sandbox_service.trainer.recipe import Denominator

STD_EPSILON = 1e-6


def advantages(rewards: Sequence[float]) -> list[float]:
    """(r - mean) / (std + 1e-6) over the selected rollouts of one group; std is the unbiased one, as in verl."""
    found = torch.tensor(rewards, dtype=torch.float64)
    normalised: list[float] = ((found - found.mean()) / (found.std() + STD_EPSILON)).tolist()
    return normalised


def token_weights(sampled: Sequence[Sequence[int]], denominator: Denominator) -> list[list[float]]:
    """The weight of one token in each rollout; `sampled[g][i]` is |o_i| in group g.

    group: 1 / (tokens of the group) / groups, Eq. 6 averaged over the groups of a batch.
    batch: 1 / (tokens of the batch), as verl's `token-mean`: long groups weigh more.
    """
    total = sum(map(sum, sampled))
    if denominator == "batch":
        return [[1.0 / total] * len(group) for group in sampled]
    return [[1.0 / (sum(group) * len(sampled))] * len(group) for group in sampled]


def policy_loss(
    logprobs: Tensor, old: Tensor, advantage: Tensor, mask: Tensor, weight: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """The negated objective, a scalar to be summed over micro-batches.

    `logprobs`, `old`, `mask`: (rollouts, tokens); `advantage`, `weight`: (rollouts,).
    """
    ratio = torch.exp((logprobs - old) * mask)  # masked before exp: a padded position must not overflow
    gain = advantage[:, None]
    objective = torch.minimum(ratio * gain, ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * gain)
    return -(objective * mask * weight[:, None]).sum()
