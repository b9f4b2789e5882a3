"""What `train data` writes, as our own trainer reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sandbox_service.cli import main
from sandbox_service.errors import SetupError
from sandbox_service.serve import temporary_service
from sandbox_service.trainer.given import given
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.problems import is_held_out, problems
from sandbox_service.trainer.recipe import NANO, RECIPES, Architecture, Evaluation, Stage
from sandbox_service.trainer.roc import Selection
from sandbox_service.trainer.sft import train_sft
from sandbox_service.trainer.sources import SFT
from sandbox_service.trainer.tokens import Tokens
from sandbox_service.trainer.traces import conversation, encode, text

ROWS, CHECKPOINT = Path(__file__).with_name("data"), Path(__file__).with_name("smoke")
Convert = Callable[[str, Path], Path]


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    """Rows of a source, as the command writes them."""

    def run(source: str, rows: Path) -> Path:
        path = tmp_path / f"{source}.jsonl"
        assert main(["train", "data", source, str(rows), "--out", str(path)]) == 0
        capsys.readouterr()
        return path

    return run


def test_sft_on_the_rows_of_every_source_learns_what_the_assistant_says(convert: Convert) -> None:
    """Token by token, as verl's own data set has it; three steps of SFT on them lower the loss."""
    found = given([convert(source, ROWS / f"{source}.jsonl") for source in SFT], [])
    assert {source for source in SFT if any(source in file for file in found.files)} == set(SFT)
    traces = [conversation(messages) for messages in found.conversations]
    tokens = Tokens.train(map(text, traces), 400)
    examples = [encode(trace, tokens) for trace in traces]
    for (ids, mask), messages in zip(examples, found.conversations, strict=True):
        whole = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)
        learned = [token for token, ours in zip(ids, mask, strict=True) if ours]
        said = [turn["content"] + "<|im_end|>" for turn in messages if turn["role"] == "assistant"]
        assert (tokens.decode(ids), tokens.decode(learned)) == (whole, "".join(said))
    marks = [tokens.encode(conversation([{"role": role, "content": "<tool_response>a</tool_response>"}])[0][0])
             for role in ("user", "system")]  # fmt: skip
    assert len(marks[0]) < len(marks[1])  # a tag in the system message is its characters
    torch.manual_seed(0)
    policy = Policy(Architecture(hidden=32, layers=1, heads=2, kv_heads=2, head_dim=16, ffn=64, vocabulary=tokens.size,
                                 positions=4096))  # fmt: skip
    losses: list[float] = []
    recipe = replace(NANO.sft, epochs=3, batch=len(examples), lr=1e-2)
    train_sft(policy, examples, recipe, 0, lambda _step, _steps, loss: losses.append(loss))
    assert len(losses) == 3
    assert losses[-1] < losses[0] - 0.1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of one step, named `small`."""
    stage = Stage("1", steps=1, data="one-call", max_tokens=120, turns=3)
    rl = replace(NANO.rl, prompts=4, rollouts=8, selection=Selection(keep=4), stages=(stage,))
    recipe = replace(NANO, name="small", rl=rl, evaluation=Evaluation("held-out", 4, 2, 1.0, 120, 3))
    monkeypatch.setitem(RECIPES, "small", recipe)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_run_trains_on_given_files_alone(
    convert: Convert, small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command: SFT of a checkpoint, a step of RL with a signal, an evaluation on what was held out."""
    published = [{"problem": one.question, "answer": one.answer} for one in problems("one-call", "given", 30)]
    published += [{"problem": one.question, "answer": one.answer} for one in problems("held-out", "given", 3)]
    published += [{"problem": "Add one and one. " * 100, "answer": "2"}]
    rows = tmp_path / "published.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in published))
    sft, rl = convert("nemotron", ROWS / "nemotron.jsonl"), convert("project-euler", rows)
    out = tmp_path / "run"
    command = ["train", "--recipe", "small", "--base", str(CHECKPOINT), "--sft", str(sft), "--problems", str(rl)]
    command += ["--out", str(out)]
    with temporary_service() as url:
        assert main([*command, "--url", url]) == 0
        shown = capsys.readouterr().out
        assert "SFT step 1/1" in shown
        assert "1 of 31 problems have prompts of more than 392 tokens and are left out" in shown
        # Another file of that name is another run.
        with sft.open("a") as file:
            file.write(sft.read_text())
        assert main([*command, "--url", url]) == 2
        assert "or seed or other files" in capsys.readouterr().err
    asked = {row["problem"]: row["answer"] for row in published}
    for name, held_out in (("1", False), ("eval-1", True)):
        played = [json.loads(line) for line in (out / "journal" / f"{name}.jsonl").read_text().splitlines()]
        found = [line["rollout"]["problem"] for line in played if "rollout" in line]
        assert found
        assert {one["family"] for one in found} == {"project-euler"}
        assert all(asked[one["question"]] == one["answer"] for one in found)
        assert {is_held_out(one["question"]) for one in found} == {held_out}
    weights = [load_file(path / "model.safetensors") for path in (CHECKPOINT, out / "sft", out / "stages" / "1")]
    for one, other in pairwise(weights):
        assert not all(torch.equal(one[name].float(), other[name].float()) for name in one)


def _row(**changed: Any) -> dict[str, Any]:
    row = {"prompt": [{"role": "user", "content": "1 + 1?"}], "reward_model": {"ground_truth": "2"}, **changed}
    return {key: value for key, value in row.items() if value is not None}


@pytest.mark.parametrize(
    ("option", "rows", "complaint"),
    [
        ("--sft", [_row()], "row 1 is none that `train data` writes for SFT: it has no 'messages'"),
        ("--sft", [{"messages": [{"role": "user", "content": "x"}]}], "SFT: the assistant says nothing"),
        ("--sft", [{"messages": [{"role": "tool", "content": "x"}]}], "SFT: a message is a text of system, user"),
        ("--sft", [], "has no rows"),
        ("--problems", [{"problem": "1 + 1?", "answer": "2"}], "for RL: it has no 'prompt'"),
        ("--problems", [_row(), _row(prompt=[])], "row 2 is none that `train data` writes for RL"),
        ("--problems", [_row(reward_model={"ground_truth": 2})], "question and answer must be texts"),
        ("--problems", [[1]], "row 1 is none that"),
        ("--problems", [_row()], "0 of 1 problems are held out for the evaluation"),
        ("--base", [], "is no Hugging Face folder that can be trained here: it has no config.json"),
    ],
)
def test_a_wrong_file_is_told_before_anything_starts(
    option: str, rows: list[Any], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given_path = tmp_path if option == "--base" else path
    assert main(["train", option, str(given_path), "--out", str(tmp_path / "run")]) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_papers_recipe_takes_given_data_and_model_only_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With all three it gets as far as reading them."""
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    command = ["train", "--recipe", "rstar2-14b", "--out", str(tmp_path / "run"), "--sft", str(path)]
    assert main([*command, "--problems", str(path)]) == 2
    assert "or run it with yours (--base, --sft and --problems)" in capsys.readouterr().err
    assert main([*command, "--problems", str(path), "--base", str(CHECKPOINT)]) == 2
    assert "rows.jsonl: row 1 is none that `train data` writes for SFT: it has no 'messages'" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--dry-run"], ["--emit", "verl"]])
def test_what_starts_no_run_takes_no_data(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "rstar2-14b", *option, "--sft", "rows.jsonl"]) == 2
    assert "are of a run here" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"there is no .*absent\.jsonl"):
        given([tmp_path / "absent.jsonl"], [])
