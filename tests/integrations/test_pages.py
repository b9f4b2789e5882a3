"""The commands of docs/verl.md and docs/trl.md, in an environment that has both; and what the plug-in says of a verl
that it does not know."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

pytest.importorskip("verl")

from tests.integrations.conftest import ROOT
from tests.integrations.test_verl_rollout import AGENT
from tests.integrations.verl_running import compose

pytestmark = [pytest.mark.verl, pytest.mark.timeout(200, func_only=True)]
PAGES = "\n".join((ROOT / "docs" / name).read_text() for name in ("verl.md", "trl.md"))
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", PAGES, re.DOTALL) for line in block.splitlines()]
INLINE = re.findall(r"`((?:pip|make|python|sandbox-service) [^`]+)`", re.sub(r"```.*?```", "", PAGES, flags=re.DOTALL))
COMMANDS = list(dict.fromkeys([*SHELL, *INLINE]))


def ran(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_pages(command: str, tmp_path: Path) -> None:
    """Installing is what made this environment: its extra must exist. Targets must; the others run as they stand."""
    called, *rest = shlex.split(command, comments=True)
    if called == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert rest[0] == "install"
        assert re.fullmatch(r"\.\[(\w+)\]", rest[1])
        assert rest[1].strip(".[]") in extras
    elif called == "make":
        assert f"\n{rest[0]}:" in (ROOT / "Makefile").read_text()
    else:
        program = [sys.executable, *(["-m", "sandbox_service"] if called == "sandbox-service" else [])]
        rows = str(ROOT / "tests/trainer/data/dapo.jsonl")
        shown = ran([*program, *(rows if one == "FILE" else one for one in rest)], tmp_path)
        assert shown.returncode == 0, shown.stderr
        if "registry" in command:
            assert shown.stdout.split()[-1] == "True", shown.stderr


def test_the_pages_have_such_commands() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"pip", "make", "python", "sandbox-service"}
    pinned = (ROOT / "requirements-integrations.txt").read_text()
    for page, version in (("verl", r"For verl ([\d.]+\d)\."), ("trl", r"For TRL ([\d.]+\d)\.")):
        found = re.search(version, (ROOT / f"docs/{page}.md").read_text())
        assert found
        assert f"\n{page}=={found[1]}" in pinned


def test_the_command_line_of_the_page_composes() -> None:
    config = compose(AGENT.split())
    assert config.sandbox.url == "http://127.0.0.1:8000"
    assert config.reward.reward_manager.name == "sandbox_verify"


def test_another_verl_is_named(tmp_path: Path) -> None:
    program = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: "9.9.9" if name == "verl" else version(name)
import sandbox_service.integrations.verl.plugin
"""
    shown = ran([sys.executable, "-c", program], tmp_path)
    assert "tested with verl 0.9.1, this is 9.9.9; if something is odd: pip install verl==0.9.1" in shown.stderr


@pytest.mark.parametrize(("hook", "part"), [
    ("verl.tools.base_tool", "tool"),
    ("verl.trainer.ppo.v1.replay_buffer", "sampler"),
])  # fmt: skip
def test_a_hook_that_is_gone_is_told_loudly(hook: str, part: str, tmp_path: Path) -> None:
    """verl itself notes a plug-in's failure at DEBUG and goes on without it."""
    program = f"import sys; sys.modules[{hook!r}] = None; import sandbox_service.integrations.verl.plugin"
    shown = ran([sys.executable, "-c", program], tmp_path)
    assert shown.returncode != 0
    assert re.search(
        rf"^sandbox-service: {part} does not fit verl 0\.9\.1 and is left out: .*{re.escape(hook)}.* What to do: "
        r"pip install verl==0\.9\.1$", shown.stderr, re.MULTILINE,
    )  # fmt: skip
