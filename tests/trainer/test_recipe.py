"""The recipes, compared with what the paper says (arXiv 2508.20722v1, sections 3 to 5.1)."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from sandbox_service.trainer.recipe import NANO, RECIPES, RSTAR2_14B

K = 1024
PAPER_STAGES = [
    # steps, cumulative, response tokens, turns
    (300, 300, 8 * K, 10),
    (85, 385, 12 * K, 10),
    (125, 510, 12 * K, 15),
]


def test_the_paper_s_three_stages() -> None:
    stages = RSTAR2_14B.rl.stages
    cumulative = list(itertools.accumulate(stage.steps for stage in stages))
    found = [(s.steps, total, s.max_tokens, s.turns) for s, total in zip(stages, cumulative, strict=True)]
    assert found == PAPER_STAGES
    assert [stage.drop_solved for stage in stages] == [0, 0, 8]
    assert [stage.reset_optimizer for stage in stages] == [False, False, True]
    assert {stage.problems for stage in stages} == {42_000}


def test_the_paper_s_hyper_parameters() -> None:
    rl = RSTAR2_14B.rl
    assert (rl.prompts, rl.rollouts, rl.selection.keep, rl.temperature) == (512, 32, 16, 1.0)
    assert (rl.lr, rl.warmup_steps, rl.clip_low, rl.clip_high) == (1e-6, 20, 0.2, 0.28)
    assert (rl.selection.rule, rl.denominator) == ("roc", "group")
    sft = RSTAR2_14B.sft
    assert (sft.epochs, sft.lr, sft.warmup, sft.batch, sum(sft.traces.values())) == (3, 5e-6, 0.04, 128, 222_000)
    evaluation = RSTAR2_14B.evaluation
    assert (evaluation.temperature, evaluation.turns, evaluation.samples) == (0.6, 30, 16)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_a_recipe_is_sound_and_frozen(recipe: object) -> None:
    assert isinstance(recipe, type(NANO))
    assert recipe.rl.rollouts == 2 * recipe.rl.selection.keep
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.name = "x"  # type: ignore[misc]
    assert f'"name": "{recipe.name}"' in recipe.describe()
