"""A recipe as what verl 0.9.1 is started with: overrides of each stage, the filter run, and launch scripts.

Needs no verl; `tests/integrations/test_verl_recipe.py` composes every stage on verl's own configuration.

The mini-batch rule: verl counts a mini-batch in prompts of `rollout.n` rollouts and pads a batch up to a multiple of
it. RoC keeps G of 2G, so `ppo_mini_batch_size = prompts * G / 2G` makes one update per batch and needs no padding when
every group has a signal.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from sandbox_service.trainer.recipe import Recipe, Stage

PROMPT_TOKENS = 2048
"""The paper gives no prompt length; the authors' release has this one."""
TEMPLATE_TOKENS = 648
"""Of these the paper's prompt has at most so many (1,932 characters). verl's filter of long prompts does not see it."""
_GPUS_PER_NODE = 8


def stage_overrides(recipe: Recipe, stage: Stage) -> dict[str, str]:
    """What differs from verl's defaults, as Hydra overrides; `+` adds a key of ours."""
    rl, how = recipe.rl, recipe.rl.selection
    tokens = PROMPT_TOKENS + stage.max_tokens
    return {
        # data
        "data.train_batch_size": str(rl.prompts),
        "data.max_prompt_length": str(PROMPT_TOKENS - TEMPLATE_TOKENS),
        "data.max_response_length": str(stage.max_tokens),
        "data.filter_overlong_prompts": "True",
        # rollouts: the paper's format, tools in the service
        "+sandbox.template": recipe.template,
        "+sandbox.wall_s": str(rl.tool_wall_s),
        "+sandbox.response_chars": str(rl.response_chars),
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.prompt_length": str(PROMPT_TOKENS),
        "actor_rollout_ref.rollout.n": str(rl.rollouts),
        "actor_rollout_ref.rollout.temperature": str(rl.temperature),
        "actor_rollout_ref.rollout.agent.default_agent_loop": "rstar2",
        "actor_rollout_ref.rollout.multi_turn.enable": "True",
        "actor_rollout_ref.rollout.multi_turn.max_assistant_turns": str(stage.turns),
        "actor_rollout_ref.rollout.val_kwargs.n": str(recipe.evaluation.samples),
        "actor_rollout_ref.rollout.val_kwargs.do_sample": "True",
        "actor_rollout_ref.rollout.val_kwargs.temperature": str(recipe.evaluation.temperature),
        # reward: Eq. 3, verified in the service
        "reward.reward_manager.name": "sandbox_verify",
        # RoC: 2G rollouts, G are kept
        "trainer.v1.trainer_mode": "sync",
        "trainer.v1.sampler.custom_sampler.path": "pkg://sandbox_service.integrations.verl.sampler",
        "trainer.v1.sampler.custom_sampler.name": "RoCReplayBuffer",
        "+trainer.v1.sampler.sampler_kwargs.keep": str(how.keep),
        "+trainer.v1.sampler.sampler_kwargs.rule": how.rule,
        "+trainer.v1.sampler.sampler_kwargs.epsilon": str(how.epsilon),
        "+trainer.v1.sampler.sampler_kwargs.at_least": str(how.at_least),
        # loss: clip-higher, no KL, no entropy, no dual clip; token-level
        "algorithm.adv_estimator": "grpo",
        "algorithm.use_kl_in_reward": "False",
        "actor_rollout_ref.actor.use_kl_loss": "False",
        "actor_rollout_ref.actor.entropy_coeff": "0",
        "actor_rollout_ref.actor.clip_ratio_low": str(rl.clip_low),
        "actor_rollout_ref.actor.clip_ratio_high": str(rl.clip_high),
        "actor_rollout_ref.actor.clip_ratio_c": "1000000.0",
        "actor_rollout_ref.actor.loss_agg_mode": "token-mean",
        # optimiser
        "actor_rollout_ref.actor.ppo_mini_batch_size": str(mini_batch(recipe)),
        "actor_rollout_ref.actor.ppo_epochs": "1",
        "actor_rollout_ref.actor.use_dynamic_bsz": "True",
        "actor_rollout_ref.actor.ppo_max_token_len_per_gpu": str(tokens),
        "actor_rollout_ref.actor.optim.lr": str(rl.lr),
        "actor_rollout_ref.actor.optim.lr_warmup_steps": str(rl.warmup_steps),
        "actor_rollout_ref.actor.optim.lr_scheduler_type": "constant",
        "actor_rollout_ref.actor.optim.betas": f"[{rl.betas[0]},{rl.betas[1]}]",
        "actor_rollout_ref.actor.optim.weight_decay": str(rl.weight_decay),
        "actor_rollout_ref.actor.optim.clip_grad": str(rl.grad_norm),
        "actor_rollout_ref.model.enable_gradient_checkpointing": "True",
        # the run
        "trainer.project_name": recipe.name,
        "trainer.experiment_name": f"stage-{stage.name}",
        "trainer.total_epochs": "1000000",
        "trainer.total_training_steps": str(last_step(recipe, stage)),
        "trainer.save_freq": "25",
        "trainer.test_freq": "25",
    }


def mini_batch(recipe: Recipe) -> int:
    """In prompts of 2G rollouts, as verl counts: one update per `updates_per_batch`-th of the kept rollouts."""
    rl = recipe.rl
    return rl.prompts * rl.selection.keep // (rl.rollouts * rl.updates_per_batch)


def last_step(recipe: Recipe, stage: Stage) -> int:
    """verl's step count goes on when a stage resumes the one before; a reset optimiser starts a new count."""
    count = 0
    for one in recipe.rl.stages:
        count = one.steps + (0 if one.reset_optimizer else count)
        if one == stage:
            return count
    raise ValueError(f"{recipe.name} has no stage {stage.name}")


def emit(recipe: Recipe, folder: Path) -> list[Path]:
    """Write all files for a run into `folder`; return them, the first to be read first."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"README.md": _readme(recipe)}
    for stage in recipe.rl.stages:
        lines = [f"{name}={value}" for name, value in stage_overrides(recipe, stage).items()]
        files[f"stage-{stage.name}.args"] = "\n".join(lines) + "\n"
    files["router.yaml"] = _router(recipe)
    for gpus in (8, 64):
        files[f"launch-{gpus}gpu.sh"] = _launch(recipe, gpus)
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755 if name.endswith(".sh") else 0o644)
    return [folder / name for name in files]


def _launch(recipe: Recipe, gpus: int) -> str:
    """All stages one after the other, each from what the one before left."""
    nodes = gpus // _GPUS_PER_NODE
    cluster = [
        f"# Runs on the head of a Ray cluster of {nodes} nodes (`ray start --head`, the others `ray start --address=HEAD:6379`),",
        "# in a folder that all of them share.",
    ]
    lines = [
        "#!/usr/bin/env bash",
        f"# {recipe.name} on {gpus} GPUs, in verl 0.9.1. Where a stage was interrupted, the same command goes on.",
        "# MODEL: the model after SFT, a Hugging Face folder. TRAIN, VAL: JSON lines as README.md describes them.",
        "# SANDBOX: the service's address, reachable from every node; of several gateways '[http://a:8000,http://b:8000]'.",
        *(cluster if nodes > 1 else []),
        "set -euo pipefail",
        'cd "$(dirname "$0")"',
        ': "${MODEL:?}" "${TRAIN:?}" "${VAL:?}" "${SANDBOX:?}"',
        "run() {  # stage, model, data, more overrides",
        '    mapfile -t overrides <"stage-$1.args"',
        '    python3 -m verl.trainer.main_ppo "${overrides[@]}" actor_rollout_ref.model.path="$2" data.train_files="$3" \\',
        f'        data.val_files="$VAL" +sandbox.url="$SANDBOX" trainer.nnodes={nodes} trainer.n_gpus_per_node={_GPUS_PER_NODE} \\',
        f"        actor_rollout_ref.rollout.tensor_model_parallel_size={2 if nodes > 1 else 4} "
        'trainer.default_local_dir="$PWD/checkpoints-$1" "${@:4}"',
        "}",
        'checkpoint() { echo "$PWD/checkpoints-$1/global_step_$2"; }',
        "export_model() {  # checkpoint, folder",
        '    [ -d "$2" ] || python3 -m verl.model_merger merge --backend fsdp --local_dir "$1/actor" --target_dir "$2"',
        "}",
    ]
    before: Stage | None = None
    for stage in recipe.rl.stages:
        lines.append("")
        if stage.drop_solved and before:
            lines += _filter_run(recipe, stage, before)
        model, data = '"$MODEL"', '"$TRAIN"'
        more = ""
        if stage.drop_solved:
            data = '"$PWD/hard.jsonl"'  # verl's processes may run in another folder
        if before and stage.reset_optimizer:
            model = f'"$PWD/model-{before.name}"'
        elif before:
            start = f'"$(checkpoint {before.name} {last_step(recipe, before)})"'
            more = f" trainer.resume_from_path={start}"
            lines += [
                f"# Goes on with weights and optimiser of stage {before.name}; after an interruption with its own.",
                f'if [ -e "$PWD/checkpoints-{stage.name}/latest_checkpointed_iteration.txt" ]; then resume=(trainer.resume_mode=auto)',
                f"else resume=(trainer.resume_mode=resume_path{more}); fi",
            ]
            more = ' "${resume[@]}"'
        lines.append(f"run {shlex.quote(stage.name)} {model} {data}{more}")
        before = stage
    return "\n".join(lines) + "\n"


def _filter_run(recipe: Recipe, stage: Stage, before: Stage) -> list[str]:
    """Problems that the policy now always solves are dropped (paper 4.3): rolled out by `sandbox-service eval`."""
    return [
        f"# Between {before.name} and {stage.name}: {stage.drop_solved} rollouts of each problem by the latest policy; "
        f"those with all of them correct are dropped.",
        f'export_model "$(checkpoint {before.name} {last_step(recipe, before)})" "$PWD/model-{before.name}"',
        "if [ ! -e hard.jsonl ]; then",
        "    urls=() list=$SANDBOX",
        r"    if [[ $list == \[*\] ]]; then list=${list:1:-1}; fi",
        '    for one in ${list//,/ }; do urls+=(--url "$one"); done',
        f'    vllm serve "$PWD/model-{before.name}" --port 8100 --data-parallel-size {_GPUS_PER_NODE} &',
        "    server=$!",
        "    trap 'kill \"$server\" 2>/dev/null || true' EXIT",
        "    until curl -sf http://127.0.0.1:8100/v1/models >/dev/null; do kill -0 $server; sleep 5; done",
        f'    sandbox-service eval --endpoint http://127.0.0.1:8100/v1 --model "$PWD/model-{before.name}" \\',
        '        "${urls[@]}" --data "$TRAIN" --unsolved hard.jsonl.new \\',
        f"        --samples {stage.drop_solved} --temperature {recipe.rl.temperature:g} --max-tokens {stage.max_tokens} "
        f"--turns {stage.turns}",
        "    mv hard.jsonl.new hard.jsonl",
        "    kill $server && wait $server || true",
        "fi",
    ]


def _router(recipe: Recipe) -> str:
    longest = max(stage.max_tokens for stage in recipe.rl.stages)
    return (
        "# To place rollouts by KV cache: actor_rollout_ref.rollout.router_config_path=$PWD/router.yaml\n"
        "router_class: sandbox_service.integrations.verl.router.KVRouter\n"
        'kv_tokens: 400000  # of one server; vLLM logs it: "GPU KV cache size: 400,000 tokens"\n'
        f"max_response: {longest}\n"
    )


def _readme(recipe: Recipe) -> str:
    stages = "\n".join(
        f"| {one.name} | {one.steps} | {one.max_tokens} | {one.turns} | "
        f"{f'drop what {one.drop_solved} of {one.drop_solved} rollouts solve' if one.drop_solved else 'all'} | "
        f"{'reset' if one.reset_optimizer else 'goes on'} |"
        for one in recipe.rl.stages
    )
    return f"""# {recipe.name} in verl 0.9.1

Written by `sandbox-service train --recipe {recipe.name} --emit verl`. Each `stage-N.args` holds one stage's overrides of
verl's `ppo_trainer`, one a line; a launch script runs them all:

    MODEL=/models/after-sft TRAIN=/data/train.jsonl VAL=/data/val.jsonl SANDBOX=http://sandbox:8000 ./launch-8gpu.sh

| stage | steps | response tokens | turns | data | optimiser |
|---|---|---|---|---|---|
{stages}

A row of the data: `{{"prompt": [{{"role": "user", "content": QUESTION}}], "data_source": "math", "reward_model":
{{"style": "rule", "ground_truth": ANSWER}}}}`. The agent loop adds the paper's prompt around the question.

What the paper leaves open, and what stands here: one update per batch (mini-batch {mini_batch(recipe)} prompts of
{recipe.rl.rollouts}); prompts of at most {PROMPT_TOKENS} tokens; the loss is a mean over the tokens of the batch (verl's
`token-mean`), where Eq. 6 has a mean per group. These files were composed on verl's configuration; they have not been
run on GPUs.
"""
