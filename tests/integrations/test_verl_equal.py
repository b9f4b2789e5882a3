"""Our advantage and loss are verl's, on the same tensors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("verl")
import torch

from sandbox_service.trainer import loss

pytestmark = pytest.mark.verl


def test_advantages_are_verls() -> None:
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    groups = [[1.0, 0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0]]
    rewards = torch.zeros(8, 6)
    rewards[:, -1] = torch.tensor([reward for group in groups for reward in group])
    names = np.array([index for index, group in enumerate(groups) for _ in group])
    theirs, _ = compute_grpo_outcome_advantage(rewards, torch.ones(8, 6), names)
    ours = [advantage for group in groups for advantage in loss.advantages(group)]
    torch.testing.assert_close(theirs[:, 0].double(), torch.tensor(ours, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_the_loss_and_its_gradient_are_verls_also_far_from_a_ratio_of_one() -> None:
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
    from verl.workers.config import ActorConfig

    torch.manual_seed(0)
    lengths = [7, 3, 5, 6]
    mask = torch.zeros(4, 7)
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
    mask[0, 2] = 0  # a tool's token
    old, drift = torch.randn(4, 7), torch.randn(4, 7) * 0.8
    advantage = torch.tensor([1.2, -0.7, 0.4, -0.9])
    config = ActorConfig(
        strategy="fsdp", rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_low=0.2, clip_ratio_high=0.28,
        clip_ratio_c=1e6,
    )  # fmt: skip
    found = []
    for side in ("verl", "ours"):
        new = (old + drift).requires_grad_()
        if side == "verl":
            value, _ = compute_policy_loss_vanilla(
                old, new, advantage[:, None].expand(4, 7), mask, "token-mean", config
            )
        else:
            sampled = [[int(tokens) for tokens in mask.sum(1)]]
            weight = torch.tensor(loss.token_weights(sampled, "batch")[0])
            value = loss.policy_loss(new, old, advantage, mask, weight, 0.2, 0.28)
        value.backward()
        found.append((value.detach(), new.grad))
    torch.testing.assert_close(found[0], found[1])
