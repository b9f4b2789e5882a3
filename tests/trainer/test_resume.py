"""A run that is killed goes on, and what it learns from the rollouts in its journal is the same bit by bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.errors import SetupError
from sandbox_service.serve import temporary_service
from sandbox_service.trainer.checkpoint import open_run, owned
from sandbox_service.trainer.recipe import NANO, Evaluation, Recipe, Stage
from sandbox_service.trainer.report import write_report
from sandbox_service.trainer.roc import Selection
from sandbox_service.trainer.train import train
from tests.conftest import WaitUntil

CHECKPOINT = Path(__file__).with_name("smoke")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def recipe() -> Recipe:
    """Two stages with all that a stage has, small."""
    stages = (
        Stage("1", steps=2, data="one-call", max_tokens=120, turns=3),
        Stage("2", steps=1, data="one-call", problems=8, max_tokens=120, turns=3, drop_solved=2, reset_optimizer=True),
    )
    rl = replace(NANO.rl, prompts=4, rollouts=6, engines=2, selection=Selection(keep=3), stages=stages)
    return replace(NANO, base=str(CHECKPOINT), rl=rl, evaluation=Evaluation("held-out", 4, 2, 1.0, 120, 3))


async def go(folder: Path, url: str) -> int:
    """Do what is left; return how many calls that took."""
    async with AsyncSandboxClient(url) as sandbox:
        await train(recipe(), 0, folder, sandbox, print)
        return sandbox.stats().calls


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with temporary_service() as found:
        yield found


async def test_killed_it_goes_on_and_nothing_counts_twice(tmp_path: Path, url: str, wait_until: WaitUntil) -> None:
    """kill -9 in the middle of step 2; then to the end; then all of it again from the journals alone."""
    folder, journal = tmp_path / "run", tmp_path / "run" / "journal" / "2.jsonl"
    program = f"import asyncio; from {__name__} import go, Path; asyncio.run(go(Path({str(folder)!r}), {url!r}))"
    process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        await wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3, timeout_s=600)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = journal.read_bytes()
    before = before[: before.rindex(b"\n") + 1]
    await go(folder, url)
    whole = journal.read_bytes()
    assert whole.startswith(before)
    keys = [line.split(b'"problem"')[0] for line in whole.splitlines() if b'"rollout": {' in line]
    assert len(keys) == len(set(keys)) == 24

    replayed = tmp_path / "replayed"
    shutil.copytree(folder, replayed)
    shutil.rmtree(replayed / "latest")
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        (replayed / name).unlink()
    shutil.rmtree(replayed / "stages")
    assert await go(replayed, url) == 0
    for path in ("stages/1/model.safetensors", "stages/2/model.safetensors", "latest/model.safetensors"):
        assert (replayed / path).read_bytes() == (folder / path).read_bytes(), path
    assert (replayed / "journal" / "2.jsonl").read_bytes() == whole
    assert (folder / "stages/1/model.safetensors").read_bytes() != (folder / "sft/model.safetensors").read_bytes()

    page = write_report(folder).read_text()
    assert "<h3>Step 3</h3>" in page
    assert "&lt;|im_start|&gt;user" in page  # what a model or a program wrote is text, never markup
    assert "<|im_start|>" not in page
    assert page.count("<svg") == 1


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run = open_run(tmp_path, recipe(), 0)
    assert open_run(tmp_path, recipe(), 0) == run
    with pytest.raises(SetupError, match="another recipe or seed"):
        open_run(tmp_path, recipe(), 1)


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    """Nor is a lock left behind by one that has ended."""
    folder = tmp_path / "run"
    with owned(folder), pytest.raises(SetupError, match="another process is training in"), owned(folder):
        pass
    with owned(folder):
        pass
