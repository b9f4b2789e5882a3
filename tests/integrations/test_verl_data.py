"""What `train data` writes, as Parquet, read by verl's own data set classes; each source from five rows of its form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("verl")
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

from sandbox_service.cli import main
from sandbox_service.integrations import evaluate
from sandbox_service.trainer.given import given
from sandbox_service.trainer.sources import RL, SFT
from tests.integrations.conftest import ROOT
from tests.integrations.verl_running import compose

pytestmark = pytest.mark.verl
ROWS = ROOT / "tests/trainer/data"


@pytest.fixture
def tokenizer(model_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_folder)


def written(source: str, path: Path) -> Path:
    """The rows of a source, converted by the command."""
    assert main(["train", "data", source, str(ROWS / f"{source}.jsonl"), "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("source", sorted(set(RL) - {"verl"}))
def test_verl_reads_the_parquet_of_rl_rows(source: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """As its trainer does: lengths counted by the chat template, rows collated for the rollouts; none is lost."""
    path = written(source, tmp_path / "train.parquet")
    lines = [json.loads(line) for line in written(source, tmp_path / "train.jsonl").read_text().splitlines()]
    config = compose(["data.filter_overlong_prompts=True", "data.max_prompt_length=2048"]).data
    rows = RLHFDataset(str(path), tokenizer, config)
    assert len(rows) == len(lines) > 0
    batch = collate_fn([rows[index] for index in range(len(rows))])
    for index, line in enumerate(lines):
        assert batch["raw_prompt"][index] == line["prompt"]
        assert batch["reward_model"][index] == line["reward_model"]
        assert (batch["data_source"][index], batch["index"][index]) == ("math", line["extra_info"]["index"])
    # `eval`, and with it the filter run of the recipe, reads the same file.
    asked = [(line["prompt"][0]["content"], line["reward_model"]["ground_truth"]) for line in lines]
    assert [(one.text, one.answer) for one in evaluate.load(path)] == asked


@pytest.mark.parametrize("source", sorted(SFT))
def test_verls_sft_reads_the_parquet_and_learns_what_the_assistant_says(
    source: str, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """Token by token: what the mask covers are the assistant's turns, with their end, and nothing of a tool or user."""
    path = written(source, tmp_path / "sft.parquet")
    lines = [json.loads(line) for line in written(source, tmp_path / "sft.jsonl").read_text().splitlines()]
    assert given([path], []).conversations == [line["messages"] for line in lines]  # our own trainer reads it too
    config: dict[str, Any] = {"max_length": 16384, "pad_mode": "no_padding"}
    rows = MultiTurnSFTDataset(str(path), tokenizer, config)
    assert len(rows) == len(lines) > 0
    for index, line in enumerate(lines):
        row = rows[index]
        learned = [
            token for token, one in zip(row["input_ids"].tolist(), row["loss_mask"].tolist(), strict=True) if one
        ]
        said = [turn["content"] + "<|im_end|>\n" for turn in line["messages"] if turn["role"] == "assistant"]
        assert tokenizer.decode(learned) == "".join(said)
