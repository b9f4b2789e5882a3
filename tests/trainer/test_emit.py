"""`train --emit verl`, as far as it needs no verl; `tests/integrations/test_verl_recipe.py` composes the overrides."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sandbox_service.cli import main
from sandbox_service.integrations.emit import PROMPT_TOKENS, TEMPLATE_TOKENS
from sandbox_service.trainer.prompts import TEMPLATES, first_turn

STUB = """#!/usr/bin/env bash
case "$*" in
*main_ppo*) printf '%s\\n' "$@" >>"$LOG"; echo -- >>"$LOG" ;;
esac
exit 0
"""


@pytest.fixture
def emitted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["train", "--recipe", "rstar2-14b", "--emit", "verl", "--out", str(tmp_path / "verl")]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert Path(line).exists()
    return tmp_path / "verl"


def test_a_recipe_of_this_trainer_alone_is_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`nano`, the default: scripts for a cluster would ask for a model that nobody has."""
    assert main(["train", "--emit", "verl", "--out", str(tmp_path / "verl")]) == 2
    assert "write another recipe for verl, with --recipe rstar2-14b" in capsys.readouterr().err
    assert not (tmp_path / "verl").exists()


def test_room_is_left_for_the_papers_prompt() -> None:
    """English and JSON have at least three characters a token; the page says how many there are."""
    template = "".join(piece.text for piece in first_turn(TEMPLATES["paper"], ""))
    assert len(template) / 3 <= TEMPLATE_TOKENS
    page = (Path(__file__).parents[2] / "docs/verl.md").read_text()
    assert f"{len(template):,} characters, at most {TEMPLATE_TOKENS}" in page
    assert f"data.max_prompt_length={PROMPT_TOKENS - TEMPLATE_TOKENS}" in page


@pytest.mark.parametrize(
    ("sandbox", "told"),
    [("http://[::1]:80", ["http://[::1]:80"]), ("[http://a:80,http://b:80]", ["http://a:80", "http://b:80"])],
)
def test_the_filter_run_asks_all_gateways(emitted: Path, sandbox: str, told: list[str]) -> None:
    """Where verl is told several, in its way to write a list."""
    lines = (emitted / "launch-8gpu.sh").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if "urls=()" in line)
    script = "\n".join(["set -euo pipefail", *lines[start : start + 3], 'printf "%s\\n" "${urls[@]}"'])
    done = subprocess.run(["bash", "-c", script], env={"SANDBOX": sandbox}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [word for url in told for word in ("--url", url)]


@pytest.mark.parametrize(("gpus", "nodes"), [(8, 1), (64, 8)])
def test_the_launch_script_runs_three_stages(emitted: Path, tmp_path: Path, gpus: int, nodes: int) -> None:
    """With a verl that only notes how it is called; the filter run's result is there already."""
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "python3").write_text(STUB)
    (bin / "python3").chmod(0o755)
    (emitted / "hard.jsonl").write_text("")
    log = tmp_path / "log"
    given = {"MODEL": "/m", "TRAIN": "/t.jsonl", "VAL": "/v.jsonl", "SANDBOX": "http://s", "LOG": str(log)}
    path = f"{bin}:{os.environ['PATH']}"
    subprocess.run([emitted / f"launch-{gpus}gpu.sh"], env={**given, "PATH": path}, check=True, timeout=50)
    stages = [set(stage.splitlines()) for stage in log.read_text().split("--\n")[:-1]]
    assert [next(one for one in stage if "max_response_length" in one) for stage in stages] == [
        f"data.max_response_length={tokens}" for tokens in (8192, 12288, 12288)
    ]
    assert all(f"trainer.nnodes={nodes}" in stage for stage in stages)
    assert f"trainer.resume_from_path={emitted}/checkpoints-1/global_step_300" in stages[1]
    assert {f"actor_rollout_ref.model.path={emitted}/model-2", f"data.train_files={emitted}/hard.jsonl"} <= stages[2]


def test_the_filter_run_names_options_that_exist(emitted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = (emitted / "launch-8gpu.sh").read_text().replace("\\\n", " ")
    command = next(line for line in script.splitlines() if "sandbox-service eval" in line)
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    shown = capsys.readouterr().out
    options = re.findall(r"--[a-z-]+", command)
    assert "--unsolved" in options
    assert all(option in shown for option in options)
