"""Non-reasoning supervised fine-tuning: loss on assistant tokens only.

Every token weighs the same: a batch is drawn at random and its loss is one mean over its assistant tokens. Batches of
like lengths, each with a mean of its own, would be quicker and would weight short traces more.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from sandbox_service.trainer.batches import micro_batches, padded, token_logprobs
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.muon import Muon
from sandbox_service.trainer.recipe import Sft
from sandbox_service.trainer.traces import Example

_MICRO = 8
_GRAD_NORM = 1.0


def train_sft(
    policy: Policy, examples: Sequence[Example], recipe: Sft, seed: int, report: Callable[[int, int, float], None]
) -> None:
    """Train in place. `report(step, steps, loss)` is told after each step; loss in nats per assistant token."""
    batch = min(recipe.batch, len(examples))
    steps = max(1, int(len(examples) * recipe.epochs / batch))
    optimizers = _optimizers(policy, recipe)
    batches = _batches(len(examples), batch, random.Random(f"sft-order/{seed}"))
    policy.train()
    for step in range(steps):
        for optimizer, lr in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("scale", 1.0) * _schedule(step, steps, recipe)
        loss = _accumulate(policy, [examples[index] for index in next(batches)])
        nn.utils.clip_grad_norm_(policy.parameters(), _GRAD_NORM)
        for optimizer, _ in optimizers:
            optimizer.step()
        report(step + 1, steps, loss)


def _accumulate(policy: Policy, batch: Sequence[Example]) -> float:
    """Set the gradients of the batch's mean loss; return that loss."""
    policy.zero_grad()
    total, loss_sum = sum(sum(mask) for _, mask in batch), 0.0
    for part in micro_batches(batch, [len(tokens) for tokens, _ in batch], _MICRO):
        tokens = padded([tokens for tokens, _ in part], torch.long, policy.device)
        mask = padded([mask for _, mask in part], torch.float32, policy.device)[:, 1:]
        loss = -(token_logprobs(policy, tokens) * mask).sum() / total
        loss.backward()  # type: ignore[no-untyped-call]
        loss_sum += loss.item()
    return loss_sum


def _batches(count: int, size: int, rng: random.Random) -> Iterator[list[int]]:
    """Epoch after epoch, each in a new order."""
    order: list[int] = []
    while True:
        while len(order) < size:
            order += rng.sample(range(count), count)
        yield order[:size]
        order = order[size:]


def _schedule(step: int, steps: int, recipe: Sft) -> float:
    """Linear warm-up, then a cosine from 1 to `final_lr`."""
    warm = min(1.0, (step + 1) / max(1, round(recipe.warmup * steps)))
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    return warm * (recipe.final_lr + (1 - recipe.final_lr) * cosine)


def _optimizers(policy: Policy, recipe: Sft) -> list[tuple[Optimizer, float]]:
    """Optimizers with their learning rate. Adam's steps have one size, so the embedding's is scaled to its own."""
    embedding = policy.model.embed_tokens.weight
    scale = policy.shape.hidden**0.5 if recipe.optimizer == "muon" else 1.0
    matrices = [w for w in policy.parameters() if w.dim() == 2 and w is not embedding]
    vectors = [w for w in policy.parameters() if w.dim() < 2]
    adam_groups: list[dict[str, Any]] = [{"params": [embedding], "scale": scale}, {"params": vectors}]
    if recipe.optimizer == "adamw":
        adam_groups.append({"params": matrices})
        return [(AdamW(adam_groups, betas=(0.9, 0.95), weight_decay=0.01), recipe.lr)]
    return [
        (AdamW(adam_groups, betas=(0.9, 0.95), weight_decay=0.0), recipe.lr),
        (Muon(matrices, recipe.muon_lr, weight_decay=0.01), recipe.muon_lr),
    ]
