"""One step of GRPO-RoC: from the groups that were played to new weights. No I/O, and reproducible bit by bit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW

from sandbox_service.trainer.batches import micro_batches, padded, token_logprobs
from sandbox_service.trainer.groups import Group
from sandbox_service.trainer.loss import advantages, policy_loss, token_weights
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.recipe import Rl
from sandbox_service.trainer.records import Rollout
from sandbox_service.trainer.rewards import p_total
from sandbox_service.trainer.roc import select


@dataclass(frozen=True)
class Trained:
    """What an update did."""

    groups: int
    """With a signal."""
    rollouts: int
    loss: float
    grad_norm: float
    gap: float
    """The largest difference of a log-probability, sampled and computed again; 0 but for rounding before an update."""


def choose(groups: Sequence[Group], rl: Rl, seed: str) -> list[Group]:
    """RoC: the groups with a signal, down to the rollouts to train on."""
    kept = []
    for index, group in enumerate(groups):
        rewards, penalties = [rollout.reward for rollout in group], [p_total(rollout) for rollout in group]
        picked = select(rewards, penalties, rl.selection, random.Random(f"{seed}/roc/{index}"))
        if picked is not None:
            kept.append([group[which] for which in picked])
    return kept


def update(policy: Policy, optimizer: AdamW, kept: Sequence[Group], rl: Rl) -> Trained:
    """Train on the chosen groups: `updates_per_batch` steps of the optimizer, each on its share of the groups.

    RuntimeError: a gradient is not finite; the weights are as they were before that share.
    """
    policy.train()
    loss = norm = gap = 0.0
    for part in _shares(kept, rl.updates_per_batch):
        optimizer.zero_grad()
        weights = token_weights([[rollout.sampled for rollout in group] for group in part], rl.denominator)
        rows = [
            (rollout, advantage, weight)
            for group, tokens in zip(part, weights, strict=True)
            for rollout, advantage, weight in zip(
                group, advantages([rollout.reward for rollout in group]), tokens, strict=True
            )
        ]
        for some in micro_batches(rows, [len(rollout.tokens) for rollout, _, _ in rows], rl.micro_batch):
            found, gap = _backward(policy, some, rl, gap)
            loss += found
        norm = float(nn.utils.clip_grad_norm_(policy.parameters(), rl.grad_norm, error_if_nonfinite=True))
        optimizer.step()
    return Trained(len(kept), sum(map(len, kept)), loss, norm, gap)


def _backward(policy: Policy, rows: Sequence[tuple[Rollout, float, float]], rl: Rl, gap: float) -> tuple[float, float]:
    """Add the gradients of some rollouts; their part of the loss, and the largest gap so far."""
    device, float32 = policy.device, torch.float32
    tokens = padded([rollout.tokens for rollout, _, _ in rows], torch.long, device)
    mask = padded([rollout.mask for rollout, _, _ in rows], float32, device)[:, 1:]
    old = padded([rollout.logprobs for rollout, _, _ in rows], float32, device)[:, 1:]
    advantage = torch.tensor([advantage for _, advantage, _ in rows], device=device)
    weight = torch.tensor([weight for _, _, weight in rows], device=device)
    logprobs = token_logprobs(policy, tokens, rl.temperature)
    loss = policy_loss(logprobs, old, advantage, mask, weight, rl.clip_low, rl.clip_high)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), max(gap, float(((logprobs.detach() - old).abs() * mask).max()))


def _shares(kept: Sequence[Group], parts: int) -> Iterator[Sequence[Group]]:
    for part in range(parts):
        if share := kept[len(kept) * part // parts : len(kept) * (part + 1) // parts]:
            yield share
