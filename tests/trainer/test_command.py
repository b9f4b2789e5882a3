"""`sandbox-service train`, as far as it needs no service."""

from __future__ import annotations

import json

import pytest

from sandbox_service.cli import main


def test_a_dry_run_prints_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "rstar2-14b", "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [stage["steps"] for stage in shown["rl"]["stages"]] == [300, 85, 125]


def test_what_cannot_run_here_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "rstar2-14b"]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert main(["train", "--recipe", "nanno"]) == 2
    assert "there are: nano, rstar2-14b" in capsys.readouterr().err
