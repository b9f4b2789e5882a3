"""RoC as verl's two replay buffers, on a local TransferQueue; groups as verl's agent loop workers leave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("verl")
import torch
import transfer_queue as tq
from transfer_queue import KVBatchMeta

from tests.integrations.verl_running import fields, put_group

pytestmark = [pytest.mark.verl, pytest.mark.timeout(100, func_only=True)]
RIGHT, UNTIDY, WRONG = (1.0, 0.0), (1.0, 0.5), (0.0, 0.0)
"""Sessions: reward and p_err."""


@pytest.fixture(autouse=True)
def queue(ray_cluster: None) -> Iterator[None]:
    yield
    for partition, keys in tq.kv_list().items():
        if keys:
            tq.kv_clear(partition_id=partition, keys=list(keys))


@pytest.fixture(params=["RoCReplayBuffer", "RoCReplayBufferAsync"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sampled(
    kind: str, groups: int, refill_fn: Callable[[int], Any] = lambda count: None, **options: Any
) -> tuple[KVBatchMeta, dict[str, Any]]:
    """The batch of step 1, by a buffer that is made as verl's trainer makes a custom one."""
    from sandbox_service.integrations.verl import sampler

    buffer = getattr(sampler, kind)(
        trainer_mode="sync" if kind == "RoCReplayBuffer" else "colocate_async", trainer_config={},
        max_off_policy_threshold=options.pop("threshold", None), max_off_policy_strategy="drop",
        sampler_kwargs={"keep": 2, "rule": "topk", **options}, refill_fn=refill_fn,
    )  # fmt: skip
    buffer.poll_interval = 0.05
    batch, figures = buffer.sample(global_steps=1, partition_id="train", batch_size=groups)
    assert set(tq.kv_list().get("train", {})) >= set(batch.keys)
    return batch, figures


def test_the_sequences_of_a_session_share_its_fate(kind: str) -> None:
    """Eleven of each: the last, by number and not by letters, has the facts that count; the tidy right one is kept."""
    put_group("a", [UNTIDY, RIGHT, UNTIDY, WRONG], sequences=11)
    batch, figures = sampled(kind, 1)
    assert sorted(batch.keys) == sorted(f"a_{session}_{index}" for session in (1, 3) for index in range(11))
    assert (figures["roc/rollouts"], figures["roc/rollouts_kept"]) == (4, 2)
    assert set(tq.kv_list()["train"]) == set(batch.keys)


def test_a_step_without_any_signal_changes_nothing(kind: str) -> None:
    """verl cannot train on nothing: rollouts of one reward stand in, whose advantages are verl's 0."""
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

    put_group("a", [RIGHT] * 4)
    put_group("b", [WRONG] * 4)
    batch, figures = sampled(kind, 2)
    assert (figures["roc/groups"], figures["roc/groups_without_signal"], figures["roc/rollouts_kept"]) == (2, 2, 0)
    rows = fields(batch, "uid", "rm_scores", "response_mask")
    assert len(rows) == 2
    scores, mask = (torch.stack([row[name] for row in rows]) for name in ("rm_scores", "response_mask"))
    advantages, _ = compute_grpo_outcome_advantage(scores, mask, np.array([row["uid"] for row in rows]))
    assert not advantages.any()


def test_a_group_whose_sessions_all_failed_is_replaced_if_asked_for(kind: str) -> None:
    """The synchronous buffer by `refill`, the asynchronous one always."""
    put_group("lost", [], status="failure")
    asked: list[int] = []

    def refill(count: int) -> None:
        asked.append(count)
        put_group(f"fresh{len(asked)}", [RIGHT, RIGHT, WRONG, WRONG])

    options = {"refill": True, "train_batch_size": 1} if kind == "RoCReplayBuffer" else {}
    batch, _ = sampled(kind, 1, refill, **options)
    assert asked == [1]
    assert {key.partition("_")[0] for key in batch.keys} == {"fresh1"}
    assert "lost" not in tq.kv_list()["train"]


def test_without_refill_a_step_of_failed_groups_ends_verls_run() -> None:
    put_group("lost", [], status="failure")
    with pytest.raises(RuntimeError, match="no materializable trajectories"):
        sampled("RoCReplayBuffer", 1)


def test_one_lost_session_costs_the_asynchronous_buffer_its_group() -> None:
    """verl evicts and replaces every group that failed in part; the synchronous buffer goes on with what is left."""
    group = [RIGHT, RIGHT, WRONG]
    put_group("a", group, status="failure")
    batch, figures = sampled("RoCReplayBuffer", 1)
    assert (figures["roc/rollouts"], len(batch.keys)) == (3, 2)
    tq.kv_clear(partition_id="train", keys=batch.keys)

    put_group("a", group, status="failure")
    batch, _ = sampled("RoCReplayBufferAsync", 1, lambda count: put_group("fresh", [*group, WRONG]))
    assert {key.partition("_")[0] for key in batch.keys} == {"fresh"}


def test_the_asynchronous_buffer_drops_what_is_too_old() -> None:
    put_group("old", [RIGHT, RIGHT, WRONG, WRONG], step=-2)
    batch, figures = sampled(
        "RoCReplayBufferAsync", 1, lambda count: put_group("fresh", [RIGHT, RIGHT, WRONG, WRONG]), threshold=2
    )
    assert {key.partition("_")[0] for key in batch.keys} == {"fresh"}
    assert figures["training/off_policy/evicted_samples"] == 1


@pytest.mark.parametrize(("options", "complaint"), [
    ({"refill": True}, "refill needs train_batch_size"),
    ({"kept": 2}, "sampler_kwargs has no kept"),
])  # fmt: skip
def test_wrong_options_are_told(kind: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        sampled(kind, 1, **options)
