"""`train --emit verl` composed on verl's own configuration."""

from __future__ import annotations

import pytest

pytest.importorskip("verl")

from sandbox_service.integrations.emit import stage_overrides
from sandbox_service.trainer.recipe import RSTAR2_14B
from tests.integrations.verl_running import compose

pytestmark = pytest.mark.verl


@pytest.mark.parametrize(
    ("index", "response", "turns", "last"), [(0, 8192, 10, 300), (1, 12288, 10, 385), (2, 12288, 15, 125)]
)
def test_each_stage_composes_on_verls_configuration(index: int, response: int, turns: int, last: int) -> None:
    """Hydra refuses an override of a key that verl does not have, and verl's dataclasses a value of a wrong kind."""
    from verl.utils.config import omega_conf_to_dataclass

    overrides = stage_overrides(RSTAR2_14B, RSTAR2_14B.rl.stages[index])
    config = compose([f"{name}={value}" for name, value in overrides.items()])
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert (config.data.train_batch_size, rollout.n, rollout.temperature) == (512, 32, 1.0)
    assert (rollout.response_length, rollout.multi_turn.max_assistant_turns) == (response, turns)
    assert (config.trainer.total_training_steps, config.trainer.use_v1) == (last, True)
    assert (actor.clip_ratio_low, actor.clip_ratio_high, actor.use_kl_loss, actor.entropy_coeff) == (
        0.2,
        0.28,
        False,
        0,
    )
    assert (actor.optim.lr, actor.optim.lr_warmup_steps, actor.optim.lr_scheduler_type) == (1e-6, 20, "constant")
    assert dict(config.trainer.v1.sampler.sampler_kwargs) == {"keep": 16, "rule": "roc", "epsilon": 0.05, "at_least": 1}
    # The mini-batch rule: what RoC keeps is exactly one of verl's mini-batches, so nothing is padded.
    kept = config.data.train_batch_size * config.trainer.v1.sampler.sampler_kwargs.keep
    assert actor.ppo_mini_batch_size * rollout.n == kept
    built = omega_conf_to_dataclass(rollout)
    assert built.agent.default_agent_loop == "rstar2"
    assert omega_conf_to_dataclass(actor.optim).betas == [0.9, 0.999]


def test_what_the_overrides_name_exists() -> None:
    from verl.trainer.ppo.reward import resolve_reward_manager_cls
    from verl.utils.import_utils import load_extern_type

    overrides = stage_overrides(RSTAR2_14B, RSTAR2_14B.rl.stages[0])
    config = compose([f"{name}={value}" for name, value in overrides.items()])
    custom = config.trainer.v1.sampler.custom_sampler
    assert load_extern_type(custom.path, custom.name).__name__ == "RoCReplayBuffer"
    assert resolve_reward_manager_cls(config).__name__ == "VerifyRewardManager"
