"""Faults of the machine that Redis is on: its clock is stepped, its disk is full."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox_service.config import Settings
from sandbox_service.embedded import EmbeddedServer
from sandbox_service.errors import Unavailable
from sandbox_service.models import Status
from sandbox_service.queue import Policy, Queue
from tests.conftest import WaitUntil
from tests.queue.conftest import fetch_one, result_of, submission

HOUR_S = 3600


def step_clock(queue: Queue, seconds: int) -> None:
    """From now on the scripts read a clock that was stepped by this much."""
    for name, script in list(queue._scripts.items()):
        text = script.text.replace("clock[1] * 1000000", f"(clock[1] + {seconds}) * 1000000")
        assert text != script.text
        queue._scripts[name] = replace(script, text=text, sha="0" * 40)  # unknown to the server: sent as text


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S])
async def test_a_step_of_the_clock_loses_nothing(queue: Queue, seconds: int) -> None:
    """What runs is stored; what is queued runs, or is told that its deadline passed, and never waits for the clock to
    catch up; new calls are taken as before, and a rate is no lower for it."""
    policy = Policy(rate=1000)
    await queue.submit("t", [submission("running"), submission("queued")], notify="g", policy=policy)
    [running] = await queue.claim("w1", 1, wait_s=0)
    step_clock(queue, seconds)
    await queue.submit("t", [submission("new")], notify="g", policy=policy)
    claimed = await queue.claim("w1", 8, wait_s=0)
    assert [each.id for each in claimed] == (["new"] if seconds > 0 else ["queued", "new"])
    assert all(each.queued_s >= 0 for each in claimed)
    done = [running, *claimed]
    assert await queue.finish("w1", [(each, b"r") for each in done]) == [True] * len(done)
    if seconds > 0:
        assert result_of(await fetch_one(queue, "queued")).status is Status.EXPIRED
    assert await queue.depth() == 0
    await queue.submit("t", [submission(f"more{n}") for n in range(500)], notify="g", policy=policy)
    assert len(await queue.claim("w1", 500, wait_s=0)) == 500


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="disk-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


def fill(path: Path) -> None:
    """Write until nothing more fits, to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass


@pytest.fixture
async def on_small_disk(small_disk: Path) -> AsyncIterator[Queue]:
    with EmbeddedServer(small_disk / "data", small_disk / "redis.sock") as server:
        queue = await Queue.connect(Settings(redis_url=server.url))
        await queue.join("w1", {"default": "hash"})
        yield queue
        await queue.close()


async def test_a_full_disk_is_503_until_there_is_room(
    on_small_disk: Queue, small_disk: Path, wait_until: WaitUntil
) -> None:
    """The append-only file can not be written: nothing is accepted that could be lost, the result of what runs is kept
    until it can be stored, and all goes on by itself."""
    queue = on_small_disk
    await queue.submit("t", [submission("a"), submission("b")], notify="g")
    [execution] = await queue.claim("w1", 1, wait_s=0)
    fill(small_disk / "full")
    refused: list[str] = []

    async def is_refused() -> bool:
        try:
            await queue.submit("t", [submission(f"x{len(refused)}", payload=bytes(8192))], notify="g")
        except Unavailable as error:
            refused.append(error.message)
        return bool(refused)

    await wait_until(is_refused, timeout_s=20)
    finishing = asyncio.create_task(queue.finish("w1", [(execution, b"kept")]))
    await asyncio.sleep(0.5)
    (small_disk / "full").unlink()
    async with asyncio.timeout(25):
        assert await finishing == [True]
    record = await fetch_one(queue, "a")
    assert record is not None
    assert record.result == b"kept"
    assert (await queue.claim("w1", 1, wait_s=5))[0].id == "b"
