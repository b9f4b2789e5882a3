"""`train --emit verl`: the launch scripts run with a python3 that notes its arguments.

For 8 and for 64 GPUs these are composed on verl's own configuration and checked as `verl.trainer.main_ppo` checks them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("verl")
from omegaconf import DictConfig

from sandbox_service.integrations.emit import TEMPLATE_TOKENS, emit
from sandbox_service.trainer.recipe import RSTAR2_14B
from tests.integrations.verl_running import compose

pytestmark = pytest.mark.verl
GPUS = {8: 1, 64: 8}
"""And the nodes that they are on."""
STAGES = [("1", 8192, 10, 300), ("2", 12288, 10, 385), ("3", 12288, 15, 125)]
"""Response tokens, turns, and verl's step count at the end."""
NOTE = """#!/bin/bash
exec 9>>"$NOTES"; flock 9  # one of them runs in the background
printf '%s\\0' "${0##*/}" "$@" >&9; printf '\\n' >&9; exec 9>&-
while [ $# -gt 0 ]; do [ "$1" = --unsolved ] && echo '{}' >"$2"; shift; done
exit 0
"""
Launched = Mapping[int, tuple[Path, list[list[str]]]]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """The folder of each launch, and all commands that it ran, as lists of arguments."""
    found = {}
    for gpus in GPUS:
        folder = tmp_path_factory.mktemp(f"launch-{gpus}")
        emit(RSTAR2_14B, folder)
        for name in ("python3", "vllm", "curl", "sandbox-service"):
            (folder / "bin").mkdir(exist_ok=True)
            (folder / "bin" / name).write_text(NOTE)
            (folder / "bin" / name).chmod(0o755)
        given = {"MODEL": "/models/sft", "TRAIN": "/data/train.parquet", "VAL": "/data/val.parquet"}
        given |= {"SANDBOX": "http://sandbox:8000", "NOTES": str(folder / "notes")}
        given["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
        subprocess.run([folder / f"launch-{gpus}gpu.sh"], env=given, check=True, timeout=50)
        lines = (folder / "notes").read_text().splitlines()
        found[gpus] = (folder, [line.split("\0")[:-1] for line in lines])
    return found


def trainings(launched: Launched, gpus: int) -> list[list[str]]:
    """The overrides of each start of verl's trainer."""
    start = ["python3", "-m", "verl.trainer.main_ppo"]
    return [command[3:] for command in launched[gpus][1] if command[:3] == start]


def composed(launched: Launched, gpus: int, index: int) -> DictConfig:
    """Hydra refuses an override of a key that verl does not have, and verl's dataclasses a value of a wrong kind."""
    assert len(trainings(launched, gpus)) == 3
    return compose(trainings(launched, gpus)[index])


@pytest.mark.parametrize("gpus", GPUS)
@pytest.mark.parametrize("index", range(3))
def test_verl_takes_each_launch_line(launched: Launched, gpus: int, index: int) -> None:
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    config = composed(launched, gpus, index)
    validate_config(config, use_reference_policy=False, use_critic=False)
    name, response, turns, last = STAGES[index]
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert config.trainer.experiment_name == f"stage-{name}"
    assert (config.data.train_batch_size, rollout.n, rollout.temperature) == (512, 32, 1.0)
    assert (rollout.response_length, rollout.multi_turn.max_assistant_turns) == (response, turns)
    # verl's filter counts the question; the paper's prompt comes on top.
    assert rollout.prompt_length - config.data.max_prompt_length == TEMPLATE_TOKENS
    assert (config.trainer.total_training_steps, config.trainer.use_v1) == (last, True)
    assert (config.trainer.v1.trainer_mode, config.algorithm.adv_estimator) == ("sync", "grpo")
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.loss_agg_mode) == (0.2, 0.28, "token-mean")
    assert (actor.use_kl_loss, actor.entropy_coeff, config.algorithm.use_kl_in_reward) == (False, 0, False)
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.lr_scheduler_type) == (1e-6, 20, "constant")
    assert dict(config.sandbox) == {
        "template": "paper", "wall_s": 4.0, "response_chars": RSTAR2_14B.rl.response_chars, "url": "http://sandbox:8000",
    }  # fmt: skip
    built = omega_conf_to_dataclass(rollout)
    assert built.agent.default_agent_loop == "rstar2"
    assert omega_conf_to_dataclass(actor.optim).betas == [0.9, 0.999]


@pytest.mark.parametrize("gpus", GPUS)
def test_all_gpus_are_used_and_models_fit_them(launched: Launched, gpus: int) -> None:
    for index in range(3):
        config = composed(launched, gpus, index)
        assert (config.trainer.nnodes, config.trainer.n_gpus_per_node) == (GPUS[gpus], 8)
        assert config.trainer.n_gpus_per_node % config.actor_rollout_ref.rollout.tensor_model_parallel_size == 0


@pytest.mark.parametrize("gpus", GPUS)
@pytest.mark.parametrize("index", range(3))
def test_what_roc_keeps_is_one_mini_batch_on_every_gpu(launched: Launched, gpus: int, index: int) -> None:
    """Nothing is padded and each GPU has as many rollouts of the one update: by verl's own count."""
    from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

    config = composed(launched, gpus, index)
    keep = config.trainer.v1.sampler.sampler_kwargs.keep
    assert dict(config.trainer.v1.sampler.sampler_kwargs) == {"keep": 16, "rule": "roc", "epsilon": 0.05, "at_least": 1}
    kept = config.data.train_batch_size * keep
    trainer = object.__new__(PPOTrainerSync)
    trainer.config, trainer.use_critic, trainer.global_steps = config, False, 1
    multiple = trainer._get_required_batch_multiple(gpus)
    assert config.actor_rollout_ref.actor.ppo_mini_batch_size * config.actor_rollout_ref.rollout.n == kept
    assert (kept, kept % multiple, kept // multiple) == (512 * 16, 0, 1)


@pytest.mark.parametrize("gpus", GPUS)
def test_a_stage_begins_where_the_one_before_ended(launched: Launched, gpus: int) -> None:
    """The second with weights and optimiser, the third with the weights alone and the problems that are left."""
    folder, _ = launched[gpus]
    first, second, third = (composed(launched, gpus, index) for index in range(3))
    models = [one.actor_rollout_ref.model.path for one in (first, second, third)]
    assert models == ["/models/sft", "/models/sft", f"{folder}/model-2"]
    assert [one.data.train_files for one in (first, second, third)] == [
        "/data/train.parquet", "/data/train.parquet", f"{folder}/hard.jsonl",
    ]  # fmt: skip
    assert second.trainer.resume_mode == "resume_path"
    assert second.trainer.resume_from_path == f"{first.trainer.default_local_dir}/global_step_300"
    assert first.trainer.resume_mode == third.trainer.resume_mode == "auto"


@pytest.mark.parametrize("gpus", GPUS)
def test_the_filter_run_stands_between_two_and_three(
    launched: Launched, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint of stage 2 as verl takes it, served, and eight rollouts of each problem as in stage 2
    but for the turns of stage 3."""
    from verl.model_merger.base_model_merger import parse_args

    folder, commands = launched[gpus]
    starts = [index for index, command in enumerate(commands) if "verl.trainer.main_ppo" in command]
    between = [command for command in commands[starts[1] + 1 : starts[2]] if command[0] != "curl"]
    found = {command[0]: command[1:] for command in between}
    assert sorted(found) == ["python3", "sandbox-service", "vllm"]
    assert found["python3"][:2] == ["-m", "verl.model_merger"]
    monkeypatch.setattr("sys.argv", found["python3"][1:])
    merge = parse_args()
    assert (merge.operation, merge.backend, merge.target_dir) == ("merge", "fsdp", f"{folder}/model-2")
    assert merge.local_dir == f"{folder}/checkpoints-2/global_step_385/actor"
    assert found["vllm"][:2] == ["serve", f"{folder}/model-2"]
    command, *options = found["sandbox-service"]
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert command == "eval"
    assert given == {
        "--endpoint": "http://127.0.0.1:8100/v1", "--model": f"{folder}/model-2", "--url": "http://sandbox:8000",
        "--data": "/data/train.parquet", "--unsolved": "hard.jsonl.new", "--samples": "8", "--temperature": "1",
        "--max-tokens": "12288", "--turns": "15",
    }  # fmt: skip
    assert json.loads((folder / "hard.jsonl").read_text()) == {}


def test_what_the_overrides_name_exists(launched: Launched) -> None:
    from verl.trainer.ppo.reward import resolve_reward_manager_cls
    from verl.utils.import_utils import load_extern_type

    config = composed(launched, 8, 0)
    custom = config.trainer.v1.sampler.custom_sampler
    assert load_extern_type(custom.path, custom.name).__name__ == "RoCReplayBuffer"
    assert resolve_reward_manager_cls(config).__name__ == "VerifyRewardManager"
