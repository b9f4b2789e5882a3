"""Advantages and the loss, against numbers by hand and against autograd of the plain formula."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_service.trainer.loss import advantages, policy_loss, token_weights


def test_advantages_by_hand() -> None:
    """One right of four: mean 1/4, unbiased std 1/2."""
    assert advantages([1, 0, 0, 0]) == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=2, max_size=32).filter(lambda found: len(set(found)) == 2))
def test_advantages_sum_to_nothing(rewards: list[float]) -> None:
    found = advantages(rewards)
    assert sum(found) == pytest.approx(0, abs=1e-9)
    assert all((reward > 0) == (advantage > 0) for reward, advantage in zip(rewards, found, strict=True))


def test_the_two_denominators() -> None:
    """Groups of 2 + 2 and 6 + 10 tokens."""
    lengths = [[2, 2], [6, 10]]
    assert token_weights(lengths, "batch") == [[1 / 20] * 2] * 2
    assert token_weights(lengths, "group") == [[1 / 8] * 2, [1 / 32] * 2]


def loss_of(ratio: float, advantage: float) -> float:
    """The loss of one token of weight 1."""
    one = torch.ones(1, 1)
    found = policy_loss(one * math.log(ratio), one * 0, one[0] * advantage, one, one[0], 0.2, 0.28)
    return float(found)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"),
    [
        (1.0, 1.0, -1.0),
        (1.2, 1.0, -1.2),  # plain clipping would have stopped here
        (1.28, 1.0, -1.28),
        (1.5, 1.0, -1.28),  # clipped high
        (0.5, 1.0, -0.5),  # a gain that shrank is not clipped
        (0.5, -1.0, 0.8),  # clipped low
        (1.5, -1.0, 1.5),  # a loss that grew is not clipped
    ],
)
def test_clip_higher(ratio: float, advantage: float, loss: float) -> None:
    assert loss_of(ratio, advantage) == pytest.approx(loss)


def test_the_clip_has_no_gradient_beyond_it() -> None:
    """And a masked token none anywhere, even where its ratio would overflow."""
    logprobs = torch.tensor([[math.log(1.5), 0.0, 500.0]], dtype=torch.float64, requires_grad=True)
    mask, one = torch.tensor([[1.0, 1.0, 0.0]]), torch.ones(1, dtype=torch.float64)
    policy_loss(logprobs, torch.zeros_like(logprobs), one, mask, one / 2, 0.2, 0.28).backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [[0.0, -0.5, 0.0]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["group", "batch"]))
def test_it_is_the_paper_s_formula(seed: int, denominator: str) -> None:
    """Eq. 6 as nested sums over Python floats, its gradient by autograd, at ratios from 1/3 to 3."""
    generator = torch.Generator().manual_seed(seed)
    groups, members, width = 3, 4, 7
    lengths = torch.randint(1, width + 1, (groups, members), generator=generator)
    advantage = torch.randn(groups, members, generator=generator, dtype=torch.float64)
    old = torch.randn(groups, members, width, generator=generator, dtype=torch.float64)
    shift = (torch.rand(groups, members, width, generator=generator, dtype=torch.float64) * 2 - 1) * math.log(3)
    new = (old + shift).requires_grad_()

    total = torch.zeros((), dtype=torch.float64)
    for g in range(groups):
        inner = torch.zeros((), dtype=torch.float64)
        for i in range(members):
            for t in range(int(lengths[g, i])):
                rho, gain = torch.exp(new[g, i, t] - old[g, i, t]), advantage[g, i]
                inner = inner + torch.min(rho * gain, torch.clip(rho, 0.8, 1.28) * gain)
        total = total + (inner / lengths[g].sum() / groups if denominator == "group" else inner / lengths.sum())
    (expected,) = torch.autograd.grad(-total, new)

    mask = (torch.arange(width) < lengths[..., None]).double()
    weight = torch.tensor(token_weights(lengths.tolist(), denominator), dtype=torch.float64)  # type: ignore[arg-type]
    flat = [tensor.flatten(0, 1) for tensor in (new, old, advantage, mask, weight)]
    loss = policy_loss(*flat, 0.2, 0.28)
    (gradient,) = torch.autograd.grad(loss, new)
    assert loss.item() == pytest.approx(-total.item(), rel=1e-12)
    assert torch.allclose(gradient, expected, rtol=1e-12, atol=1e-15)
