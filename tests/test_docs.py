"""What the documents say exists, exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_service.config import Settings
from sandbox_service.models import Call, Limits, Result, Status

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(ROOT.glob("*.md"))


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", README, re.MULTILINE))
    assert {"up", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_setting_that_is_named_exists() -> None:
    known = {f"SANDBOX_{name.upper()}" for name in Settings.model_fields}
    for document in DOCUMENTS:
        named = set(re.findall(r"\bSANDBOX_[A-Z_]+\b", document.read_text()))
        assert named <= known, document.name


def test_every_command_in_the_readme_exists() -> None:
    """`sandbox-service rootfs build --name ...`: the subcommand answers --help and knows each option."""
    for line in re.findall(r"sandbox-service ([a-z][a-z -]*[^`\n]*)", README):
        words = line.split()
        command = [word for word in words[:2] if word.isalpha()]
        options = re.findall(r"--[a-z-]+", line)
        if not command:
            continue
        called = [sys.executable, "-m", "sandbox_service", *command, "--help"]
        shown = subprocess.run(called, capture_output=True, text=True)
        if shown.returncode and len(command) == 2:
            shown = subprocess.run([*called[:-2], "--help"], capture_output=True, text=True)
        assert shown.returncode == 0, line
        for option in options:
            assert option in shown.stdout, line


def test_every_status_and_limit_stands_in_the_readme() -> None:
    for status in Status:
        assert f"| `{status.value}` |" in README
    for name in Limits.model_fields:
        default, highest = (f"{getattr(Settings(), f'{kind}_{name}'):g}" for kind in ("default", "max"))
        assert f"| `{name}` | {default} | {highest} |" in README


def test_every_field_of_a_call_stands_in_the_readme() -> None:
    for name in set(Call.model_fields) - {"language"}:
        assert f"`{name}`" in README, name
    assert "`truncated`" in README
    assert "`image`" in README
    assert {"truncated", "image"} <= set(Result.model_fields)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_is_named_exists(document: Path) -> None:
    """Links, and code names with a slash or a file's ending."""
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
    for name in re.findall(r"`((?:sandbox_service|deploy|tests|loadtest|scripts)/[\w./-]+)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`((?:gateway|worker|inside|client|queue)/[\w.-]*)`", text):
        assert (ROOT / "sandbox_service" / name).exists(), name


def test_the_code_in_the_walk_through_is_the_code() -> None:
    """Each line of TRAINING.md's Python stands in the trainer, in a module that the paragraph before it names."""
    trainer = ROOT / "sandbox_service" / "trainer"
    steps = (ROOT / "TRAINING.md").read_text().split("## One training step")[1].split("\n## ")[0]
    found = re.findall(r"^\*\*\d\.(.*?)^```python\n(.*?)^```", steps, re.MULTILINE | re.DOTALL)
    assert len(found) >= 6
    for paragraph, code in found:
        modules = [(trainer / name).read_text() for name in re.findall(r"`(\w+\.py)`", paragraph)]
        lines = {line.strip() for module in modules for line in module.splitlines()}
        for line in code.splitlines():
            assert line.strip() in lines, line
