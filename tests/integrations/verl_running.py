"""verl on the CPU: its own configuration and trainer's parts, Ray, TransferQueue; only the engine follows a script."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
import ray
import torch
import transfer_queue as tq
import verl
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.reward_loop import RewardLoopWorker
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.router import get_router_handle

from sandbox_service.trainer.prompts import IM_END
from tests.integrations.conftest import answer_text, call_text


def compose(overrides: Sequence[str]) -> DictConfig:
    """verl's `ppo_trainer` with overrides, as its command line composes it."""
    with hydra.initialize_config_dir(str(Path(verl.__file__).parent / "trainer/config"), version_base=None):
        return hydra.compose("ppo_trainer", list(overrides))


def small(model: Path, data: Path, n: int, *more: str) -> DictConfig:
    """What one CPU can run: `n` rollouts a prompt, a model of nothing."""
    return compose([
        f"actor_rollout_ref.model.path={model}", f"data.train_files={data}", f"data.val_files={data}",
        "data.train_batch_size=2", "data.max_prompt_length=4096", "data.max_response_length=4000",
        "data.dataloader_num_workers=0", "actor_rollout_ref.rollout.name=vllm", "data.shuffle=False",
        f"actor_rollout_ref.rollout.n={n}",
        "actor_rollout_ref.rollout.calculate_log_probs=True", "actor_rollout_ref.rollout.agent.num_workers=1",
                "reward.num_workers=1", "trainer.v1.trainer_mode=sync", "trainer.n_gpus_per_node=1",
        *more,
    ])  # fmt: skip


WRONG, BROKEN = 1, 2
"""Every eighth rollout of a question gives a wrong answer; the one after writes JSON that is none, then does right."""


@ray.remote(num_cpus=0)
class ScriptedEngine:
    """In place of a model server: plays the rollouts of a question in turn, each a fixed way of solving it.

    A question is the code that answers it; `first` has other first turns, by a rollout's number. What it generates
    tells this number, so that the next turn knows.
    """

    def __init__(self, model: str, first: Mapping[int, str]) -> None:
        from transformers import AutoTokenizer

        self._first = first
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._asked: Counter[str] = Counter()
        self._seen: list[tuple[str, list[int], dict[str, Any]]] = []

    def generate(
        self, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any], **_: Any
    ) -> TokenOutput:
        self._seen.append((request_id, list(prompt_ids), dict(sampling_params)))
        prompt = self._tokenizer.decode(prompt_ids)
        question = prompt.partition("<|im_start|>user\n")[2].partition(IM_END)[0].rpartition("\n")[2]
        turn = self._tokenizer.encode(self._turn(prompt, question) + IM_END, add_special_tokens=False)
        turn = turn[: sampling_params.get("max_tokens", len(turn))]
        return TokenOutput(token_ids=turn, log_probs=[-0.5] * len(turn), extra_fields={"global_steps": 1})

    def _turn(self, prompt: str, question: str) -> str:
        if "rollout " not in prompt:
            number = self._asked[question] % 8
            self._asked[question] += 1
            right = call_text(question)
            first = {WRONG: call_text("print(-1)"), BROKEN: right.replace('"arguments"', "arguments"), **self._first}
            return f"rollout {number} " + first.get(number, right)
        *_, shown = prompt.split("<tool_response>")
        shown = shown.partition("</tool_response>")[0].strip()
        if "rollout 2 " in prompt and prompt.count("<tool_response>") == 1:
            return call_text(question)
        return answer_text(shown.rpartition("\n")[2])

    def seen(self) -> list[tuple[str, list[int], dict[str, Any]]]:
        """Request, prompt and sampling parameters of each turn."""
        return self._seen


class Trainer(PPOTrainerSync):
    """verl's trainer without what needs a GPU: its data, its rollouts, its replay buffer, its balancing.

    An asynchronous mode has its own client and replay buffer here; the rest of such trainers is not in `rollouts`.
    """

    def __init__(self, config: DictConfig, router: str | None = None, first: Mapping[int, str] | None = None) -> None:
        self.config, self.global_steps, self.trainer_mode = config, 1, config.trainer.v1.trainer_mode
        self.use_critic, self.parameter_sync_step = False, 1
        self._init_tokenizer()
        self._init_dataloader()
        model = config.actor_rollout_ref.model.path
        self.engine = ScriptedEngine.remote(model, first or {})
        self.router = get_router_handle({f"engine-{index}": self.engine for index in range(2)}, router)
        client = (LLMServerClient if self.trainer_mode == "sync" else FullyAsyncLLMServerClient)(config, self.router)
        self.rewards = ray.remote(RewardLoopWorker).options(num_cpus=0).remote(config)
        self.agent_loop_manager = AgentLoopManagerTQ.create(config, client, None, [self.rewards])
        self.replay_buffer = self._build_replay_buffer()
        self.replay_buffer.poll_interval = 0.1

    def rollouts(self, prompts: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        """One step's rollouts, as `step` and `_step_once` have them made and sampled."""
        self._add_prompts_to_generate(prompts)
        return self.replay_buffer.sample(global_steps=self.global_steps, partition_id="train", batch_size=prompts)

    def close(self) -> None:
        tq.kv_clear(partition_id="train", keys=[key for keys in tq.kv_list().values() for key in keys])
        for actor in (*self.agent_loop_manager.agent_loop_workers, self.engine, self.rewards, self.router):
            ray.kill(actor)


def put_group(
    uid: str, sessions: Sequence[tuple[float, float]], sequences: int = 1, status: str = "finished", step: int = 1
) -> None:
    """A group as verl's agent loop workers leave it in TransferQueue; of each session the reward and p_err. Only its
    last sequence knows what came of it: those before tell the opposite."""
    tq.kv_put(key=uid, partition_id="train", tag={"is_prompt": True, "status": status, "global_steps": step})
    keys, rows = [], []
    for session, (reward, p_err) in enumerate(sessions):
        for index in range(sequences):
            told = p_err if index == sequences - 1 else 1 - p_err
            facts = {"p_err": told, "p_format": 0.0, "outcomes": ["ok"]}
            output = AgentLoopOutput(prompt_ids=[1], response_ids=[2, 3], response_mask=[1, 1], metrics={},
                                     reward_score=reward, extra_fields=facts)  # fmt: skip
            keys.append(f"{uid}_{session}_{index}")
            rows.append({**output.as_dict(), "uid": uid})
    if keys:
        tags = [{"status": "success", "seq_len": 3, "global_steps": step}] * len(keys)
        tq.kv_batch_put(keys=keys, partition_id="train", fields=list_of_dict_to_tensordict(rows), tags=tags)


def fields(batch: KVBatchMeta, *names: str) -> list[dict[str, Any]]:
    """What TransferQueue holds of each trajectory of a batch."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=list(names))
    rows = []
    for index in range(len(batch.keys)):
        values = {name: data[name][index] for name in names}
        rows.append({name: getattr(value, "data", value) if not isinstance(value, torch.Tensor) else value
                     for name, value in values.items()})  # fmt: skip
    return rows


def write_rows(path: Path, questions: dict[str, str]) -> Path:
    """A data set as `train data` writes it: questions and their answers."""
    rows = [
        {
            "data_source": "math", "prompt": [{"role": "user", "content": question}], "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": answer}, "extra_info": {"source": "test", "index": index},
        }
        for index, (question, answer) in enumerate(questions.items(), 1)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
