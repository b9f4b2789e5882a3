"""What killed workers leave behind, and that nothing of a living one is ever taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_service.errors import SetupError
from sandbox_service.worker.cgroup import Groups
from sandbox_service.worker.leftovers import claim_folder, remove_leftovers

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="cgroups are made by root")


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "workers"
    above = [path for path in folder.parents if path.stat().st_uid == os.getuid() and path != Path("/")]
    modes = {path: path.stat().st_mode for path in above}
    for path in above:
        path.chmod(path.stat().st_mode | 0o011)
    yield folder
    for path, mode in modes.items():
        path.chmod(mode)


def new_name() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


def test_a_dead_workers_folder_and_groups_are_removed(workers: Path) -> None:
    name = new_name()
    os.close(claim_folder(workers / name))
    (workers / name / "code").mkdir()
    leaf = Groups(name, slots=2).leaf("0")
    assert remove_leftovers(workers) == [name]
    assert not (workers / name).exists()
    assert not any(path.exists() for path in leaf.task_files)


def test_a_living_workers_folder_stays(workers: Path) -> None:
    """The lock is held by a process, not by a file: it cannot outlive its worker, and needs no pid to be looked up."""
    name = new_name()
    code = (
        "import sys, time; from pathlib import Path; from sandbox_service.worker.leftovers import claim_folder\n"
        "claim_folder(Path(sys.argv[1])); print('locked', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(workers / name)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "locked\n"
        assert remove_leftovers(workers) == []
        assert (workers / name).is_dir()
    finally:
        process.kill()
        process.communicate()
    assert remove_leftovers(workers) == [name]


def test_a_folder_that_is_just_being_made_stays(workers: Path) -> None:
    (workers / new_name()).mkdir(parents=True)
    assert remove_leftovers(workers) == []


def test_the_name_of_busy_groups_is_kept_for_the_next_start(workers: Path) -> None:
    """A killed worker's jails end a moment later than itself. Its folder is all that remembers its groups' name."""
    name = new_name()
    os.close(claim_folder(workers / name))
    leaf = Groups(name, slots=2).leaf("0")
    descriptors = leaf.open_task_files()

    def enter() -> None:
        for descriptor in descriptors:
            os.write(descriptor, b"0")

    process = subprocess.Popen(["sleep", "60"], preexec_fn=enter)
    try:
        assert remove_leftovers(workers) == []
        assert (workers / name).is_dir()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        process.kill()
        process.wait()
    assert remove_leftovers(workers) == [name]
    assert not any(path.exists() for path in leaf.task_files)


def test_nothing_is_left_of_no_workers(tmp_path: Path) -> None:
    assert remove_leftovers(tmp_path / "never-made") == []


def test_a_folder_that_jails_cannot_reach_is_refused(workers: Path) -> None:
    """It would fail as a mount error of nsjail; this says which folder it is, and what to do."""
    closed = workers / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(SetupError, match=r"closed.*SANDBOX_RUN_DIR"):
        claim_folder(closed / "below" / new_name())
