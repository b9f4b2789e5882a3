"""Groups that verl's replay buffers replace by fresh prompts: by `refill: true`, off by default, those that teach
nothing; in the asynchronous modes always those that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")

from tests.integrations import verl_running as running
from tests.integrations.test_verl_rollout import page_overrides

pytestmark = [pytest.mark.verl, pytest.mark.timeout(200, func_only=True)]


def test_refill_replaces_a_group_without_signal_by_fresh_prompts(
    ray_cluster: None, service_url: str, model_folder: Path, tmp_path: Path
) -> None:
    """Nobody can be right about the first question. Its group is dropped, and two others are trained on."""
    questions = {"print(6 * 7)": "43", "print(2 + 2)": "4", "print(3 + 3)": "6", "print(4 + 4)": "8", "print(5)": "5"}
    data = running.write_rows(tmp_path / "train.jsonl", questions)
    refill = [f"+trainer.v1.sampler.sampler_kwargs.{option}" for option in ("refill=true", "train_batch_size=2")]
    config = running.small(model_folder, data, 8, *page_overrides(service_url), *refill)
    made = running.Trainer(config)
    try:
        batch, figures = made.rollouts(2)
        rows = running.fields(batch, "uid", "prompts", "rm_scores")
    finally:
        made.close()
    assert_two_groups(made, rows, without="6 * 7")
    assert figures["roc/groups_without_signal"] == 0


def test_an_asynchronous_mode_plays_on_with_fresh_prompts_for_a_group_that_failed(
    ray_cluster: None, service_url: str, model_folder: Path, tmp_path: Path
) -> None:
    """The first question is too long a prompt, which all of its sessions refuse."""
    questions = {f"print(1)  # {'x' * 4096}": "1", "print(2 + 2)": "4", "print(3 + 3)": "6"}
    data = running.write_rows(tmp_path / "train.jsonl", questions)
    mode = ("trainer.v1.trainer_mode=colocate_async", "trainer.v1.sampler.custom_sampler.name=RoCReplayBufferAsync")
    more = (*mode, "data.filter_overlong_prompts=False")
    made = running.Trainer(running.small(model_folder, data, 8, *page_overrides(service_url), *more))
    try:
        assert type(made.replay_buffer).__name__ == "RoCReplayBufferAsync"
        batch, figures = made.rollouts(2)
        rows = running.fields(batch, "uid", "prompts", "rm_scores")
    finally:
        made.close()
    assert_two_groups(made, rows, without="xxx")
    assert figures["training/rollout_failure/evicted_samples"] == 1
    assert (figures["roc/rollouts"], figures["roc/rollouts_kept"]) == (16, 8)


def assert_two_groups(made: running.Trainer, rows: list[dict[str, Any]], *, without: str) -> None:
    """Both with a signal, and neither of the question that has this in it."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        assert without not in made.tokenizer.decode(row["prompts"])
        groups.setdefault(str(row["uid"]), []).append(float(row["rm_scores"].sum()))
    assert [sorted(rewards) for rewards in groups.values()] == [[0, 1, 1, 1]] * 2
