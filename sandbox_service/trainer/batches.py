"""Sequences of different lengths through the policy: padding, micro-batches, log-probabilities of given tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sandbox_service.trainer.model import Policy

Item = TypeVar("Item")


def micro_batches(items: Sequence[Item], lengths: Sequence[int], size: int) -> Iterator[list[Item]]:
    """Split into parts of sequences of like lengths, so that little is padded. Their sum is what is stepped on."""
    order = sorted(range(len(items)), key=lambda index: (lengths[index], index))
    for start in range(0, len(order), size):
        yield [items[index] for index in order[start : start + size]]


def padded(rows: Sequence[Sequence[float]], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(rows, longest), zeros on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=dtype, device=device)


def token_logprobs(policy: Policy, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """log p of tokens 1, 2, ... of each row given those before: (rows, tokens - 1)."""
    logits = policy(tokens[:, :-1]) / temperature
    flat = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return -flat.view(tokens.shape[0], -1)
