"""A step of verl as far as a GPU is not needed: verl's trainer, agent loop workers, reward workers, router, replay
buffer and TransferQueue are its own; the service and its jails are real; the engine follows a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")
import ray
import yaml

from sandbox_service.trainer.prompts import IM_END
from tests.integrations import verl_running as running

pytestmark = [pytest.mark.verl, pytest.mark.timeout(200, func_only=True)]
QUESTIONS = {"print(6 * 7)": "42", "print(2 + 2)": "4"}
FIVE_LINES = """
custom_sampler:
  path: pkg://sandbox_service.integrations.verl.sampler
  name: RoCReplayBuffer
sampler_kwargs:
  keep: 4
"""


def switched_on(lines: str) -> list[str]:
    """The YAML below `trainer.v1.sampler` as overrides."""
    found = yaml.safe_load(lines)
    return [
        f"{'+' if part == 'sampler_kwargs' else ''}trainer.v1.sampler.{part}.{name}={value}"
        for part, values in found.items()
        for name, value in values.items()
    ]


@pytest.fixture(scope="module")
def trainer(
    ray_cluster: None, service_url: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[running.Trainer]:
    folder = tmp_path_factory.mktemp("step")
    data = running.write_rows(folder / "train.jsonl", QUESTIONS)
    router = folder / "router.yaml"
    router.write_text(
        "router_class: sandbox_service.integrations.verl.router.KVRouter\nkv_tokens: 100000\nmax_response: 4000\n"
    )
    config = running.small(
        model_folder, data, service_url, 8, *switched_on(FIVE_LINES), "actor_rollout_ref.actor.ppo_mini_batch_size=1"
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


def test_every_turn_goes_on_from_the_tokens_before_and_on_the_same_server(trainer: running.Trainer, step: Any) -> None:
    """Nothing is tokenised again, so each prompt begins with the one before: what a KV cache can use."""
    servers: dict[tuple[int, ...], set[str]] = {}
    for name, engine in trainer.engines.items():
        seen = ray.get(engine.seen.remote())
        prompts = sorted((prompt for _, prompt, _ in seen), key=len)
        assert prompts
        later = [prompt for prompt in prompts if "<tool_response>" in trainer.tokenizer.decode(prompt)]
        assert all(any(prompt[: len(start)] == start for start in prompts if len(start) < len(prompt)) for prompt in later)
        servers[name] = {"turns"}
        assert all(params["stop_token_ids"] and 0 < params["max_tokens"] <= 4000 for _, _, params in seen)
    assert len(servers) == 2


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
