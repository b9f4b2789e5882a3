"""A leaf with real processes in it, on whichever cgroup version this machine has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from sandbox_service.worker.cgroup import Groups, remove_groups
from sandbox_service.worker.leaf import Leaf, LeafV1
from tests.conftest import WaitUntil

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups are made by root")

_MIB = 1 << 20
RunIn = Callable[[Leaf, str], "subprocess.Popen[str]"]


@pytest.fixture
def worker() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def groups(worker: str) -> Iterator[Groups]:
    made = Groups(worker, slots=2)
    yield made
    made.remove()


@pytest.fixture
async def leaf(groups: Groups, wait_until: WaitUntil) -> AsyncIterator[Leaf]:
    made = groups.leaf("leaf")
    yield made
    await wait_until(lambda: made.processes() == 0)
    made.remove()


@pytest.fixture
def run_in() -> Iterator[RunIn]:
    """`run_in(leaf, code)`: a Python process that enters the leaf as a child does, before it runs `code`."""
    started = []

    def start(leaf: Leaf, code: str) -> subprocess.Popen[str]:
        descriptors = leaf.open_task_files()

        def enter() -> None:
            for descriptor in descriptors:
                os.write(descriptor, b"0")

        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=enter
        )
        started.append(process)
        for descriptor in descriptors:
            os.close(descriptor)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def test_cpu_time_of_all_processes_is_counted(leaf: Leaf, run_in: RunIn) -> None:
    before = leaf.begin(64, 16)
    burn = "import os, time\nos.fork()\nwhile time.process_time() < 0.2: pass\n"
    run_in(leaf, burn + "try: os.wait()\nexcept ChildProcessError: pass").communicate(timeout=30)
    assert 0.4 <= leaf.counters().cpu_s - before.cpu_s < 2
    assert leaf.cpu_s() >= leaf.counters().cpu_s - 1


def test_memory_ends_at_the_limit_and_is_counted(leaf: Leaf, run_in: RunIn) -> None:
    """The kernel's own counter says so; the peak stays below the limit."""
    before = leaf.begin(32, 16)
    process = run_in(leaf, "b = bytearray(200 << 20)")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    after = leaf.counters()
    assert after.oom_kills == before.oom_kills + 1
    assert after.memory_peak is None or 24 * _MIB < after.memory_peak <= 32 * _MIB


def test_the_limit_can_be_raised_and_lowered_from_call_to_call(leaf: Leaf, run_in: RunIn) -> None:
    for limit_mb, ends in ((32, -signal.SIGKILL), (256, 0), (64, -signal.SIGKILL), (64, -signal.SIGKILL), (256, 0)):
        leaf.begin(limit_mb, 16)
        process = run_in(leaf, "b = bytearray(100 << 20)")
        process.communicate(timeout=30)
        assert process.returncode == ends, limit_mb


def test_the_peak_is_of_one_call(leaf: Leaf, run_in: RunIn) -> None:
    for size_mb in (80, 20):
        before = leaf.begin(256, 16)
        run_in(leaf, f"b = bytearray({size_mb} << 20)").communicate(timeout=30)
        peak = leaf.counters().memory_peak
        assert peak is None or size_mb * _MIB <= peak - before.memory < (size_mb + 20) * _MIB


def test_processes_end_at_the_limit(leaf: Leaf, run_in: RunIn) -> None:
    leaf.begin(64, 5)
    code = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0: time.sleep(0.2); os._exit(0)
        made += 1
except BlockingIOError: print(made)
"""
    assert run_in(leaf, code).communicate(timeout=30)[0] == "4\n"


async def test_it_knows_how_many_it_holds(leaf: Leaf, run_in: RunIn, wait_until: WaitUntil) -> None:
    leaf.begin(64, 16)
    assert leaf.processes() == 0
    process = run_in(leaf, "import os, time\nos.fork()\ntime.sleep(0.5)")
    await wait_until(lambda: leaf.processes() == 2)
    process.communicate()
    await wait_until(lambda: leaf.processes() == 0)


def test_a_busy_leaf_can_not_be_removed(groups: Groups, run_in: RunIn) -> None:
    """Removal says so instead of leaving a group behind unnoticed; later it works."""
    leaf = groups.leaf("busy")
    process = run_in(leaf, "print('in', flush=True)\nimport time; time.sleep(30)")
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(OSError, match="busy"):
        leaf.remove()
    process.kill()
    process.communicate()
    leaf.remove()


def test_two_leaves_do_not_share_a_limit(groups: Groups, run_in: RunIn) -> None:
    small, large = groups.leaf("small"), groups.leaf("large")
    small.begin(32, 16)
    large.begin(256, 16)
    process = run_in(large, "b = bytearray(100 << 20)")
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert small.counters().oom_kills == 0
    small.remove()
    large.remove()


def test_a_workers_groups_are_removed_with_all_below(worker: str) -> None:
    groups = Groups(worker, slots=2)
    leaf = groups.leaf("left-behind")
    assert remove_groups(worker)
    assert not any(path.exists() for path in leaf.task_files)


def test_groups_that_are_busy_are_told(worker: str, run_in: RunIn) -> None:
    """Whoever removes them has to come again: nothing else remembers their name."""
    groups = Groups(worker, slots=2)
    leaf = groups.leaf("busy")
    process = run_in(leaf, "print('in', flush=True)\nimport time; time.sleep(30)")
    assert process.stdout is not None
    process.stdout.readline()
    assert not remove_groups(worker)
    process.kill()
    process.communicate()
    assert remove_groups(worker)


def test_what_is_not_there_needs_no_removal() -> None:
    assert remove_groups(f"never-{uuid.uuid4().hex}")


def test_v1_enters_by_the_file_that_does_not_wait(leaf: Leaf) -> None:
    if isinstance(leaf, LeafV1):
        assert {path.name for path in leaf.task_files} == {"tasks"}


def test_a_worker_weighs_as_many_processes_as_it_has_slots(tmp_path: Path) -> None:
    """One group counts as one process, however many are in it: what many calls share must weigh as many."""
    first, second = Groups(f"{tmp_path.name}-a", slots=4), Groups(f"{tmp_path.name}-b", slots=2)
    try:
        folder = Path(first.leaf("0").task_files[-1]).parent.parent
        file = "cpu.weight" if first.version == 2 else "cpu.shares"
        one = 100 if first.version == 2 else 1024
        assert int((folder / file).read_text()) == 4 * one
        assert int((folder.parent / file).read_text()) >= 6 * one
    finally:
        first.remove()
        second.remove()
