"""Filling a tree: what it starts ends with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_service.worker import tree
from tests.conftest import WaitUntil


async def test_who_is_stopped_takes_along_what_was_started(wait_until: WaitUntil) -> None:
    """Ctrl-C or SIGTERM while packages are downloaded: pip ends at once, with what it has started."""
    started = []

    def stop(line: str) -> None:
        started.append(int(line))
        if len(started) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tree._run(["sh", "-c", "echo $$; sleep 60 & echo $!; wait"], stop)
    await wait_until(lambda: not any(is_running(pid) for pid in started))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False
