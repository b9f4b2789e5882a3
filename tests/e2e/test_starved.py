"""A call whose slot gets no CPU: load alone is no reason to call it `timed_out` (R9)."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.conftest import WaitUntil
from tests.e2e.conftest import Answer
from tests.e2e.running import Running, cgroups_of

WALL_S = 2.0
BUSY = "import time\nwhile time.process_time() < 0.2: pass\nprint('done')"


@pytest.fixture
async def service(wait_until: WaitUntil) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="starved-") as name:
        Path(name).chmod(0o711)
        service = Running(Path(name), SANDBOX_LOG_LEVEL="info")
        try:
            await wait_until(lambda: service.url, timeout_s=45)
            yield service
        finally:
            service.process.terminate()
            await asyncio.to_thread(service.process.wait, 45)


def leaves(service: Running) -> list[Path]:
    """The folder that bounds each slot's CPU time."""
    name = next(iter((service.run_dir / "workers").iterdir())).name
    groups = [Path(folder) for folder in cgroups_of([name])]
    return [leaf for group in groups for leaf in group.iterdir() if leaf.is_dir() and _bound(leaf).exists()]


def _bound(leaf: Path) -> Path:
    v1, v2 = leaf / "cpu.cfs_quota_us", leaf / "cpu.max"
    return v1 if v1.exists() else v2


@contextmanager
def starved(folders: list[Path]) -> Iterator[None]:
    """Leave these slots 2 % of a CPU."""
    for leaf in folders:
        _bound(leaf).write_text("2000")
    try:
        yield
    finally:
        feed(folders)


def feed(folders: list[Path]) -> None:
    for leaf in folders:
        _bound(leaf).write_text("-1" if _bound(leaf).name == "cpu.cfs_quota_us" else "max")


def is_used(leaf: Path) -> bool:
    return bool((leaf / "cgroup.procs").read_text().strip())


async def call(service: Running, code: str) -> Answer:
    async with httpx.AsyncClient(base_url=service.url, timeout=50) as client:
        answer: Answer = (await client.post("/v1/calls", json={"code": code, "limits": {"wall_s": WALL_S}})).json()
        return answer


async def test_a_starved_call_is_run_once_more(service: Running, wait_until: WaitUntil) -> None:
    """Only the slot that it is in first is starved: the second run is in another one, and is the verdict."""
    slots = leaves(service)
    assert len(slots) == 2
    with starved(slots):
        waiting = asyncio.create_task(call(service, BUSY))
        await wait_until(lambda: any(map(is_used, slots)))
        feed([leaf for leaf in slots if not is_used(leaf)])
        result = await waiting
    assert (result["status"], result["stdout"], result["attempts"]) == ("ok", "done\n", 1), result
    assert "got no CPU" in service.log.read_text()
    assert result["timings"]["total"] > WALL_S


async def test_a_call_starved_twice_is_timed_out_and_says_so(service: Running) -> None:
    with starved(leaves(service)):
        result = await call(service, BUSY)
    assert (result["status"], result["limit"], result["attempts"]) == ("timed_out", "wall", 1), result
    assert result["usage"]["descheduled_s"] > WALL_S / 2
    assert service.log.read_text().count("got no CPU") == 1
    assert result["timings"]["total"] > 2 * WALL_S


async def test_a_call_that_sleeps_past_its_limit_is_not_run_again(service: Running) -> None:
    result = await call(service, "import time\ntime.sleep(60)")
    assert (result["status"], result["limit"]) == ("timed_out", "wall")
    assert "got no CPU" not in service.log.read_text()
