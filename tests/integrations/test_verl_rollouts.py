"""verl's own agent-loop worker and TransferQueue with our loop, reward manager and sampler, and a live service.

The worker and the reward manager are the real classes, in this process instead of Ray actors; the model is a script.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("verl")
import ray
import transfer_queue as tq
from omegaconf import OmegaConf

from sandbox_service.integrations.emit import stage_overrides
from sandbox_service.trainer.recipe import RSTAR2_14B
from tests.integrations.conftest import answer_text, call_text
from tests.integrations.verl_running import ScriptedServer, compose

pytestmark = [pytest.mark.verl, pytest.mark.timeout(300, func_only=True)]
SESSIONS = 8


@pytest.fixture(scope="module")
def queue() -> Iterator[None]:
    """A TransferQueue on a Ray of this machine alone. CPUs are what Ray hands out, not what it uses."""
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield
    tq.close()
    ray.shutdown()


@pytest.fixture
def config(service_url: str, model_folder: Path) -> Any:
    overrides = stage_overrides(RSTAR2_14B, RSTAR2_14B.rl.stages[0])
    overrides |= {
        "+sandbox.url": service_url,
        "actor_rollout_ref.model.path": str(model_folder),
        "actor_rollout_ref.rollout.n": str(SESSIONS),
        "data.max_response_length": "2000",
        "data.max_prompt_length": "4000",
    }
    return compose([f"{name}={value}" for name, value in overrides.items()])


class Reward:
    """verl's handle of a reward worker, without the actor around it."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        from verl.trainer.ppo.reward import load_reward_manager

        self._manager = load_reward_manager(config, tokenizer)
        self.compute_score = SimpleNamespace(remote=self._manager.run_single)


class Running:
    """One prompt after the other through verl's worker; `script(session) -> turns`."""

    def __init__(self, config: Any) -> None:
        from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ

        made = AgentLoopWorkerTQ.__ray_metadata__.modified_class
        self.worker = made(config, llm_client=None, reward_loop_worker_handles=None)
        self.worker.reward_loop_worker_handles = [Reward(config, self.worker.tokenizer)]

    async def prompt(self, uid: str, scripts: Sequence[Sequence[str]], answer: str) -> ScriptedServer:
        handed_out = iter(scripts)
        server = self.worker.llm_client = ScriptedServer(self.worker.tokenizer, lambda _: next(handed_out))
        row = {
            "uid": uid, "raw_prompt": [{"role": "user", "content": "What is 6 * 7?"}], "agent_name": "rstar2",
            "reward_model": {"ground_truth": answer}, "data_source": "test", "extra_info": {}, "global_steps": 1,
            "__rollout_n__": len(scripts),
        }  # fmt: skip
        tq.kv_put(key=uid, partition_id="train", tag={"is_prompt": True, "status": "pending", "global_steps": 1})
        trajectory = {"step": 1, "sample_index": 0, "rollout_n": 0, "validate": False}
        await self.worker._run_prompt(row, {"logprobs": True}, trajectory)
        return server


def buffer(**options: Any) -> Any:
    from sandbox_service.integrations.verl.sampler import RoCReplayBuffer

    return RoCReplayBuffer(
        trainer_mode="sync", trainer_config={}, max_off_policy_threshold=8, max_off_policy_strategy="drop",
        sampler_kwargs=options, poll_interval=0.1, refill_fn=None,
    )  # fmt: skip


@pytest.fixture
async def running(queue: None, config: Any) -> AsyncIterator[Running]:
    yield Running(config)
    for partition, items in (tq.kv_list() or {}).items():
        if items:
            tq.kv_clear(partition_id=partition, keys=list(items))


CLEAN = [call_text("print(6 * 7)"), answer_text("42")]
MESSY = [call_text("print(6 * x)"), "again</reason><tool_call>{broken</tool_call>", answer_text("42")]
WRONG = [answer_text("41")]


async def test_a_rollout_in_verl_is_the_papers(running: Running) -> None:
    """Tool output goes back as the user, masked; what RoC needs is in extra_fields; the reward is verified."""
    server = await running.prompt("one", [CLEAN, MESSY, WRONG], "42.0")
    tags = tq.kv_list()["train"]
    assert tags["one"]["status"] == "finished"
    keys = ["one_0_0", "one_1_0", "one_2_0"]
    data = tq.kv_batch_get(keys=keys, partition_id="train")
    facts = [getattr(fields, "data", fields) for fields in data["extra_fields"]]
    assert [fields["outcomes"] for fields in facts] == [["ok"], ["failed", "parse_error"], []]
    assert [float(scores.sum()) for scores in data["rm_scores"]] == [1.0, 1.0, 0.0]
    decode = running.worker.tokenizer.decode
    for response, mask, turns in zip(data["responses"], data["response_mask"], (2, 3, 1), strict=True):
        own = decode([int(token) for token, kept in zip(response, mask, strict=True) if kept])
        given = decode([int(token) for token, kept in zip(response, mask, strict=True) if not kept])
        assert own.count("<|im_end|>") == turns
        assert given.count("<tool_response>") == turns - 1
        assert "<tool_response>" not in own
    assert "<tool_response>42</tool_response>" in decode(data["responses"][0].long().tolist())
    assert "NameError" in decode(data["responses"][1].long().tolist())
    for prompts in server.seen.values():  # what was sampled is never tokenised again
        assert all(later[: len(former)] == former for former, later in pairwise(prompts))


async def test_roc_keeps_whole_groups_and_half_of_their_sessions(running: Running) -> None:
    """Five correct (two of them messy) and three wrong: G = 4 are kept, floor(3/2) = 1 of them wrong."""
    await running.prompt("mixed", [CLEAN, CLEAN, CLEAN, MESSY, MESSY, WRONG, WRONG, WRONG], "42")
    await running.prompt("easy", [CLEAN] * SESSIONS, "42")
    sampler = buffer(keep=4, rule="topk")
    batch, metrics = await asyncio.to_thread(sampler.sample, 1, "train", 2)
    assert {key.split("_")[0] for key in batch.keys} == {"mixed"}
    assert len(batch.keys) == len(batch.tags) == 4
    assert {"mixed_0_0", "mixed_1_0", "mixed_2_0"} <= set(batch.keys)
    assert set(tq.kv_list()["train"]) == set(batch.keys)
    assert (metrics["roc/groups"], metrics["roc/groups_without_signal"]) == (2, 1)
    assert metrics["roc/errors_in_positives"] > metrics["roc/errors_in_positives_kept"] == 0


async def test_a_step_without_any_signal_changes_nothing(running: Running) -> None:
    await running.prompt("easy", [CLEAN] * 4, "42")
    batch, metrics = await asyncio.to_thread(buffer(keep=2).sample, 1, "train", 1)
    assert len(batch.keys) == 2
    assert metrics["roc/groups_without_signal"] == 1


async def test_killed_workers_fail_the_session_and_give_no_reward(
    running: Running, service: subprocess.Popen[str]
) -> None:
    """A call that lost its worker twice ends as `infra_error`: no trajectory is stored, so nothing is scored."""
    over = asyncio.Event()

    async def kill_workers() -> None:
        while not over.is_set():
            await asyncio.sleep(0.7)
            for pid in _workers(service.pid):
                os.kill(pid, signal.SIGKILL)

    killer = asyncio.create_task(kill_workers())
    try:
        slow = [call_text("import time; time.sleep(3); print(42)"), answer_text("42")]
        await running.prompt("lost", [slow, WRONG], "42")
    finally:
        over.set()
        await killer
    tags = tq.kv_list()["train"]
    assert tags["lost"]["status"] == "failure"
    assert "lost_0_0" not in tags


def _workers(serving: int) -> list[int]:
    """The worker processes of the service that this test started."""
    children = Path(f"/proc/{serving}/task/{serving}/children").read_text().split()
    return [int(pid) for pid in children if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
