"""Workers of the service are killed during a rollout of verl, under calls that run: verl's parts as in
`test_verl_rollout.py`, and a service of its own whose supervisor starts a killed worker again at once."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("verl")
import ray

from tests.integrations import verl_running as running
from tests.integrations.conftest import ROOT, call_text
from tests.integrations.test_verl_rollout import QUESTIONS, page_overrides

pytestmark = [pytest.mark.verl, pytest.mark.timeout(200, func_only=True)]
DOOMED, MARK = 3, "doomed"
SLEEPS = f"open('/proc/self/comm', 'w').write({MARK!r})\nimport time\ntime.sleep(25)\nprint(42)"
_SERVE = """
import select, sys, tempfile
from pathlib import Path
from sandbox_service.config import Settings
from sandbox_service.serve import Service, _Signals

with tempfile.TemporaryDirectory(prefix="sandbox-run-") as folder:
    Path(folder).chmod(0o711)
    given = {"port": 0, "run_dir": Path(folder, "run"), "log_level": "error"}
    given |= {"lease_s": 1, "slots": 4, "profiles": "bare"}
    service = Service(Settings(**given), given, Path(folder, "redis"))
    service.start(_Signals())
    told = False
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        for part in service.parts:
            if part.ends_within(0):
                part.start()
        if not told and service.is_ready():
            print(service.url, flush=True)
            told = True
    service.stop()
"""


@pytest.fixture
def service() -> Iterator[tuple[str, int]]:
    """Its address and the process whose children its parts are."""
    python = [ROOT / ".venv/bin/python", "-c", _SERVE]
    with subprocess.Popen(python, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        url = process.stdout.readline().strip()
        assert url, "the service did not start"
        yield url, process.pid
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.terminate()


def children(pid: int) -> list[int]:
    try:
        return [int(one) for task in Path(f"/proc/{pid}/task").glob("*/children") for one in task.read_text().split()]
    except OSError:
        return []


def runs_a_doomed_call(pid: int) -> bool:
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return False
    return name == MARK or any(map(runs_a_doomed_call, children(pid)))


class Killer(threading.Thread):
    """Kills each worker in which a doomed call has run for a second: whatever else it was given has ended by then."""

    def __init__(self, service: int) -> None:
        super().__init__(daemon=True)
        self._service, self.over, self.kills = service, threading.Event(), 0

    def run(self) -> None:
        while not self.over.wait(0.1):
            for part in filter(runs_a_doomed_call, children(self._service)):
                time.sleep(1)
                os.kill(part, signal.SIGKILL)
                self.kills += 1


def test_killed_workers_make_failed_sessions_and_no_reward(
    ray_cluster: None, service: tuple[str, int], model_folder: Path, tmp_path: Path
) -> None:
    """Rollout 3 of each question loses its worker twice in each of the client's three attempts; the 14 others of verl's
    step count as if nothing had been."""
    url, pid = service
    data = running.write_rows(tmp_path / "train.jsonl", QUESTIONS)
    config = running.small(model_folder, data, 8, *page_overrides(url), "+sandbox.wall_s=30")
    trainer = running.Trainer(config, first={DOOMED: call_text(SLEEPS)})
    killer = Killer(pid)
    killer.start()
    try:
        batch, figures = trainer.rollouts(2)
        shown = [trainer.tokenizer.decode(prompt) for _, prompt, _ in ray.get(trainer.engine.seen.remote())]
        rows = running.fields(batch, "uid", "rm_scores", "responses")
    finally:
        killer.over.set()
        killer.join()
        trainer.close()
    assert killer.kills >= 6
    assert (figures["roc/rollouts"], figures["roc/rollouts_kept"]) == (14, 8)
    assert figures["roc/accuracy"] == pytest.approx(6 / 7)
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(row["uid"]), []).append(float(row["rm_scores"].sum()))
        assert f"rollout {DOOMED} " not in trainer.tokenizer.decode(row["responses"])
    assert [sorted(rewards) for rewards in groups.values()] == [[0, 1, 1, 1]] * 2
    # No engine was asked to go on after the fault, or shown a word of it.
    assert not [text for text in shown if f"rollout {DOOMED} " in text]
    tools = [text.rpartition("<tool_response>")[2] for text in shown if "rollout " in text]
    assert len(tools) == 16
    assert not [text for text in tools if "infra" in text or "lost" in text or "worker" in text]
