"""The commands of docs/verl.md, in verl's environment; and what the plug-in says of a verl that it does not know."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

pytest.importorskip("verl")

from tests.integrations.conftest import ROOT
from tests.integrations.test_verl_rollout import AGENT, PAGE
from tests.integrations.verl_running import compose

pytestmark = pytest.mark.verl
SHELL = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def ran(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_every_shell_command_of_the_page(tmp_path: Path) -> None:
    """Installing is what made this environment: its extra must exist. The others run as they stand."""
    install, check, recipe = SHELL
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert install.startswith("pip install '.[verl]'")
    assert "verl" in extras
    program = re.fullmatch(r'python -c "(.*)"', check)
    assert program
    shown = ran([sys.executable, "-c", program[1]], tmp_path)
    assert (shown.returncode, shown.stdout.split()[-1]) == (0, "True"), shown.stderr
    made = ran([sys.executable, "-m", "sandbox_service", *recipe.split()[1:]], tmp_path)
    assert made.returncode == 0, made.stderr
    assert len(list((tmp_path / "recipe").glob("launch-*gpu.sh"))) == 2


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
