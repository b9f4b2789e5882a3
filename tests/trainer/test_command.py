"""`sandbox-service train`, as far as it needs no service."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.optim import AdamW

from sandbox_service.cli import main
from sandbox_service.trainer.checkpoint import open_run, owned
from sandbox_service.trainer.groups import Group
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.recipe import NANO
from sandbox_service.trainer.train import Training
from tests.client.scripted import Answer, ScriptedServer

SMOKE = Path(__file__).with_name("smoke")


def test_a_dry_run_prints_the_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "rstar2-14b", "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [stage["steps"] for stage in shown["rl"]["stages"]] == [300, 85, 125]


def test_what_cannot_run_here_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "rstar2-14b"]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert main(["train", "--recipe", "nanno"]) == 2
    assert "there are: nano, rstar2-14b" in capsys.readouterr().err


def test_a_folder_in_use_is_told_before_a_service_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which takes seconds, or minutes where the image is still to be built. One of another run likewise."""
    monkeypatch.setattr("sandbox_service.serve.temporary_service", lambda: pytest.fail("a service was started"))
    with owned(tmp_path):
        assert main(["train", "--out", str(tmp_path)]) == 2
    assert "another process is training in" in capsys.readouterr().err
    open_run(tmp_path, NANO, 1)
    assert main(["train", "--out", str(tmp_path)]) == 2
    assert "another recipe or seed" in capsys.readouterr().err


def test_without_a_service_no_folder_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sandbox_service.client._async.ANSWER_MARGIN_S", 0.2)
    assert main(["train", "--url", "http://127.0.0.1:9", "--out", str(tmp_path / "run")]) == 1
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_sft(tmp_path: Path, number: int) -> None:
    """Which has no await in it for minutes. Nothing half is kept, and the same command would go on."""
    conversations, folder = tmp_path / "conversations.jsonl", tmp_path / "run"
    turns = [("user", "What is 6 * 7?"), ("assistant", "I multiply. " * 20 + "<answer>\\boxed{42}</answer>")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    conversations.write_text(f"{json.dumps(row)}\n" * 12_000)
    server = ScriptedServer()
    server.script = [Answer(body=b'{"cancelled": 0}')]
    command = [sys.executable, "-m", "sandbox_service", "train", "--url", server.url, "--out", str(folder)]
    given = ["--base", str(SMOKE), "--sft", str(conversations)]
    with subprocess.Popen([*command, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("SFT step 20/450" in line for line in process.stdout)
            process.send_signal(number)
            _, told = process.communicate(timeout=20)
        finally:
            process.kill()
            server.close()
    assert (process.returncode, told) == (130, "stopped; the same command goes on\n")
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "run.json"]


@pytest.fixture
def ctrl_c_of_a_new_process() -> Iterator[None]:
    """A server that an earlier test ran in this process has left its own handler."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_of_a_new_process")
@pytest.mark.parametrize("just_before", [True, False])
def test_ctrl_c_ends_an_update(monkeypatch: pytest.MonkeyPatch, policy: Policy, just_before: bool) -> None:
    """It may take minutes as well, and one that came since the last await counts."""
    updates: list[int] = []

    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    async def played(*_: object) -> tuple[list[Group], int]:
        if just_before:
            interrupted()
        return [], 0

    def update(*_: object) -> None:
        if not just_before:
            interrupted()
        updates.append(1)

    monkeypatch.setattr("sandbox_service.trainer.train.update", update)
    training = Training.__new__(Training)
    training.recipe, training.seed, training.policy = NANO, 0, policy
    monkeypatch.setattr(training, "_play", played)
    optimizer = AdamW(policy.parameters())
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(training._step(NANO.rl.stages[0], 1, [], optimizer, 1))
    assert not updates
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
