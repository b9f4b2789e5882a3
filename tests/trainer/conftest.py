"""A policy small enough that a test takes milliseconds."""

from __future__ import annotations

import pytest
import torch

from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.recipe import Architecture

torch.set_num_threads(1)  # on a busy machine, two threads wait for each other longer than they compute

TINY = Architecture(hidden=32, layers=2, heads=4, kv_heads=2, head_dim=8, ffn=48, vocabulary=64, positions=96)


torch.set_num_threads(1)  # threads that wait for each other on a busy machine take longer than these few numbers


@pytest.fixture
def policy() -> Policy:
    """With random weights everywhere: a fresh policy's residual branches are zero."""
    torch.manual_seed(1)
    made = Policy(TINY)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "proj" in name:
                weight.normal_(std=0.3)
            elif "norm" in name:
                weight.add_(torch.randn_like(weight) * 0.1)
    return made
