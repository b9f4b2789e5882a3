"""Real engines on the computed clock of `loadtest/scheduler_clock.py`: what they generate, and what that takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from loadtest.scheduler_engines import Measured, run, table
from sandbox_service.trainer.model import Policy as Model
from sandbox_service.trainer.recipe import Architecture
from sandbox_service.trainer.scheduler import Policy

TINY = Model(Architecture(hidden=32, layers=1, heads=1, kv_heads=1, head_dim=32, ffn=32))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that share so little work mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def step(policy: Policy, servers: bool = False) -> tuple[Measured, list[list[int]]]:
    return run(policy, TINY, 2, rollouts=8, pressure=4, servers=servers, seed=0)


def alike(one: list[list[int]], other: list[list[int]]) -> bool:
    """Rounding, which depends on who else is in a pass, may decide a draw; that rollout then goes on otherwise."""
    return sum(a != b for a, b in zip(one, other, strict=True)) <= 1


def test_every_policy_generates_the_same_and_a_step_takes_the_same_again() -> None:
    expected, tokens = step(Policy.EXPECTED)
    again, _ = step(Policy.EXPECTED)
    assert again.makespan_s == expected.makespan_s > 0
    static, same = step(Policy.STATIC)
    assert alike(same, tokens)
    assert static.preempted > expected.preempted
    assert static.recomputed > expected.recomputed
    assert 0 <= expected.idle_share < 1
    assert table([expected, static]).count("| `") == 2


def test_servers_compute_again_what_a_local_engine_keeps() -> None:
    """There a waiting turn takes the cache of a rollout whose tool runs, and more is computed again."""
    local, tokens = step(Policy.STATIC)
    server, same = step(Policy.STATIC, servers=True)
    assert alike(same, tokens)
    assert server.recomputed > 1.2 * local.recomputed


def test_a_pass_takes_what_the_roofline_says() -> None:
    """All at once on one engine with room for all: as many passes as the longest needs."""
    measured, tokens = run(Policy.STATIC, TINY, 1, rollouts=4, pressure=0.5, servers=False, seed=0)
    assert measured.recomputed == measured.preempted == 0
    longest = max(map(len, tokens))
    weights_s = 2 * 14.8e9 / (0.6 * 5.3e12)
    assert measured.makespan_s == pytest.approx(longest * 12_000 / 448 * weights_s, rel=0.15)
