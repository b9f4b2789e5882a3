"""A step of verl as far as a GPU is not needed: verl's trainer, agent loop workers, reward workers, router, replay
buffer and TransferQueue are its own; the service and its jails are real; the engine follows a script."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")
import ray
import yaml

from sandbox_service.trainer.prompts import IM_END
from tests.integrations import verl_running as running
from tests.integrations.conftest import ROOT

pytestmark = [pytest.mark.verl, pytest.mark.timeout(200, func_only=True)]
QUESTIONS = {"print(6 * 7)": "42", "print(2 + 2)": "4"}
PAGE = (ROOT / "docs/verl.md").read_text()
BLOCKS = re.findall(r"```(?:yaml|text)\n(.*?)```", PAGE, re.DOTALL)
AGENT, ROC, _, ROUTER = BLOCKS


def page_overrides(url: str) -> list[str]:
    """The page's agent, for another address, and its YAML below `trainer.v1.sampler`, as overrides."""
    assert "http://127.0.0.1:8000" in AGENT
    roc = [
        f"{'+' if part == 'sampler_kwargs' else ''}trainer.v1.sampler.{part}.{name}={value}"
        for part, values in yaml.safe_load(ROC).items()
        for name, value in values.items()
    ]
    return [*AGENT.replace("http://127.0.0.1:8000", url).split(), *roc]


@pytest.fixture(scope="module")
def trainer(
    ray_cluster: None, service_url: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[running.Trainer]:
    folder = tmp_path_factory.mktemp("step")
    data = running.write_rows(folder / "train.jsonl", QUESTIONS)
    router = folder / "router.yaml"
    router.write_text(ROUTER)
    config = running.small(
        model_folder, data, 8, *page_overrides(service_url), "actor_rollout_ref.actor.ppo_mini_batch_size=1"
    )
    made = running.Trainer(config, str(router))
    yield made
    made.close()


@pytest.fixture(scope="module")
def step(trainer: running.Trainer) -> tuple[Any, dict[str, float]]:
    """The batch to train on and the sampler's figures."""
    return trainer.rollouts(2)


def test_roc_keeps_half_of_each_group_and_nothing_else_is_left(step: tuple[Any, dict[str, float]]) -> None:
    """Of 2G = 8 rollouts one is wrong: it stays, with three of the seven that are right."""
    import transfer_queue as tq

    batch, figures = step
    rows = running.fields(batch, "uid", "rm_scores", "extra_fields")
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(row["uid"]), []).append(float(row["rm_scores"].sum()))
    assert [sorted(rewards) for rewards in groups.values()] == [[0, 1, 1, 1]] * 2
    assert (figures["roc/rollouts"], figures["roc/rollouts_kept"], figures["roc/accuracy"]) == (16, 8, 7 / 8)
    assert set(tq.kv_list()["train"]) == set(batch.keys)


def test_errors_are_flags_from_the_service_and_not_words(step: tuple[Any, dict[str, float]]) -> None:
    batch, figures = step
    for row in running.fields(batch, "extra_fields"):
        facts = row["extra_fields"]
        broken = facts["outcomes"][0] == "parse_error"
        assert facts["outcomes"] == (["parse_error", "ok"] if broken else ["ok"])
        assert (facts["p_err"], facts["turns"]) == ((0.5, 3) if broken else (0.0, 2))
        assert (facts["p_format"], facts["stop"]) == (0.0, "done")
    # Of seven right rollouts one made two calls, of which one failed.
    assert figures["roc/errors_in_positives"] == pytest.approx(0.5 / 7)


def test_a_trajectory_is_what_was_generated_with_tool_tokens_masked(
    step: tuple[Any, dict[str, float]], trainer: running.Trainer
) -> None:
    """Token by token: mask 1 and the engine's log-probability where the policy wrote, 0 where the service did."""
    batch, _ = step
    names = ("prompts", "responses", "response_mask", "rollout_log_probs", "extra_fields", "input_ids")
    for row in running.fields(batch, *names):
        mask, response = row["response_mask"].tolist(), row["responses"].tolist()
        assert row["rollout_log_probs"].tolist() == [-0.5 if sampled else 0.0 for sampled in mask]
        written = trainer.tokenizer.decode([token for token, sampled in zip(response, mask, strict=True) if sampled])
        given = trainer.tokenizer.decode([token for token, sampled in zip(response, mask, strict=True) if not sampled])
        assert written.count(IM_END) == row["extra_fields"]["turns"]
        assert "<tool_response>" not in written
        assert given.count("<tool_response>") == len(row["extra_fields"]["outcomes"])
        assert row["input_ids"].tolist() == row["prompts"].tolist() + response
        assert "execute_python_code_with_standard_io" in trainer.tokenizer.decode(row["prompts"])


def test_every_turn_goes_on_from_the_tokens_before(trainer: running.Trainer, step: Any) -> None:
    """Nothing is tokenised again: each prompt begins with the one before, so that a KV cache holds."""
    turns: dict[str, list[list[int]]] = {}
    for _, prompt, params in ray.get(trainer.engine.seen.remote()):
        number = trainer.tokenizer.decode(prompt).partition("<|im_start|>user\n")[2].partition("<tool_call>")[0]
        turns.setdefault(number, []).append(prompt)
        assert params["stop_token_ids"] == [trainer.tokenizer.convert_tokens_to_ids(IM_END)]
        assert 0 < params["max_tokens"] <= 4000
    rollouts = [prompts for number, prompts in turns.items() if "rollout" in number]
    assert len(rollouts) == 16
    assert sorted(map(len, rollouts)) == [1] * 14 + [2] * 2
    for prompts in rollouts:
        assert all(later[: len(prompt)] == prompt for prompt, later in pairwise(prompts))


def test_the_router_has_forgotten_every_trajectory(trainer: running.Trainer, step: Any) -> None:
    """The agent loop told it of each end: no KV cache stays reserved."""
    status = ray.get(trainer.router.get_status.remote())
    assert (status["trajectories"], status["waiting"], status["total_inflight"]) == (0, 0, 0)
    assert set(status["kv_tokens_used"].values()) == {0}


def test_what_roc_keeps_is_verls_mini_batch_without_padding(trainer: running.Trainer, step: Any) -> None:
    """512 prompts of 2G = 32 with G = 16 kept make 256 of verl's; here 2 of 8 with 4 kept make 1."""
    batch, _ = step
    trainer.actor_rollout_wg = type("Workers", (), {"_dispatch_info": {"actor": [0]}})()
    keys = set(batch.keys)
    balanced = trainer._balance_batch(batch, metrics={})
    assert set(balanced.keys) == keys


async def test_more_rollouts_may_wait_in_the_router_than_ray_runs_calls_at_once(ray_cluster: None) -> None:
    """Ray lets 1,000 calls into an actor by default; with all of them waiting for a place none could be given back."""
    from sandbox_service.integrations.verl.router import KVRouter

    router = KVRouter.remote({"engine": "handle"}, {"kv_tokens": 1000, "max_response": 900})
    ended = []

    async def rollout(name: str) -> None:
        server, _ = await router.acquire_server.remote(name, prompt_ids=[0] * 10)
        router.release_server.remote(server, name)
        await router.trajectory_ended.remote(name)
        ended.append(name)

    await asyncio.wait_for(asyncio.gather(*(rollout(str(index)) for index in range(1200))), 60)
    assert len(ended) == 1200
    assert (await router.get_status.remote())["trajectories"] == 0
    ray.kill(router)
