"""Waiting for work: one call wakes one worker, many wake many, and no wake-up is lost."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from sandbox_service.queue import Execution, Queue, link
from sandbox_service.queue import queue as queue_module
from tests.queue.conftest import MakeQueue, submission


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the periodic look a lost wake-up is a hang, not a delay."""
    monkeypatch.setattr(queue_module, "WAKE_POLL_S", 30.0)
    monkeypatch.setattr(link, "SOCKET_TIMEOUT_S", 60.0)


@pytest.mark.usefixtures("no_polling")
async def test_a_waiting_worker_is_woken(queue: Queue) -> None:
    """A call submitted while a worker waits is claimed at once."""
    waiting = asyncio.create_task(queue.claim("w1", 1, wait_s=20))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await queue.submit("t", [submission("a")], notify="g")
    assert len(await waiting) == 1
    assert time.monotonic() - started < 1


@pytest.mark.usefixtures("no_polling")
async def test_one_call_wakes_one_of_many_waiters(make_queue: MakeQueue) -> None:
    """Of five waiting workers one gets the call, and only that one asks the server again."""
    asked: list[str] = []
    waiting = []
    for number in range(5):
        queue = await make_queue()
        await queue.join(f"w{number}", {"default": "hash"})
        original = queue._claim_once

        async def counted(worker: str, count: int, original=original) -> list[Execution]:
            asked.append(worker)
            return await original(worker, count)

        queue._claim_once = counted  # type: ignore[method-assign]
        waiting.append(asyncio.create_task(queue.claim(f"w{number}", 1, wait_s=20)))
    await asyncio.sleep(0.2)
    assert len(asked) == 5
    await queue.submit("t", [submission("a")], notify="g")
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0.1)
    assert (len(done), len(pending), len(asked)) == (1, 4, 6)
    await queue.submit("t", [submission(f"b{n}") for n in range(4)], notify="g")
    async with asyncio.timeout(5):
        assert all(len(claimed) == 1 for claimed in await asyncio.gather(*pending))


@pytest.mark.usefixtures("no_polling")
async def test_no_wake_up_is_lost_under_random_submits(make_queue: MakeQueue) -> None:
    """2,000 calls in random portions to two images, four workers with random appetites: all come through."""
    generator = random.Random(7)
    gateway = await make_queue()
    seen: list[str] = []
    everything = asyncio.Event()

    async def serve(name: str, images: dict[str, str]) -> None:
        queue = await make_queue()
        await queue.join(name, images)
        while True:
            claimed = await queue.claim(name, generator.randint(1, 5), wait_s=30)
            await queue.finish(name, [(each, b"r") for each in claimed])
            seen.extend(each.id for each in claimed)
            if len(seen) >= 2000:
                everything.set()

    images = [{"default": "h"}, {"default": "h", "torch": "h"}, {"torch": "h"}, {"default": "h"}]
    workers = [asyncio.create_task(serve(f"w{number}", each)) for number, each in enumerate(images)]
    sent = 0
    while sent < 2000:
        size = min(generator.randint(1, 9), 2000 - sent)
        calls = [submission(f"c{sent + n}", image=generator.choice(["default", "torch"])) for n in range(size)]
        await gateway.submit("t", calls, notify="g")
        sent += size
        await asyncio.sleep(generator.choice([0, 0, 0.001, 0.004]))
    async with asyncio.timeout(20):
        await everything.wait()
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)
    assert sorted(seen) == sorted(f"c{n}" for n in range(2000))


@pytest.mark.usefixtures("no_polling")
async def test_a_cancelled_claim_always_ends(queue: Queue) -> None:
    """At whatever moment it is cancelled, a claim ends at once, and closing does not wait for its poll.

    redis-py awaits asyncio.wait_for, which before Python 3.12 swallows a cancellation that comes as its work is
    done: a worker then waited on as if nobody had stopped it.
    """
    for number in range(300):
        task = asyncio.create_task(queue.claim("w1", 1, wait_s=20))
        for _ in range(number % 60):  # every step of the event loop on the way into the wait
            await asyncio.sleep(0)
        if number % 3 == 0:
            await asyncio.sleep(number * 0.00002)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done
        assert task.cancelled()
    async with asyncio.timeout(5):
        await queue.close()


@pytest.mark.usefixtures("no_polling")
async def test_a_waiter_that_goes_away_takes_no_wake_up_with_it(queue: Queue, make_queue: MakeQueue) -> None:
    """A worker is cancelled at the moment a call wakes it: another waiting worker gets the call."""
    other = await make_queue()
    await other.join("w2", {"default": "hash"})
    for number in range(30):
        first = asyncio.create_task(queue.claim("w1", 1, wait_s=20))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(other.claim("w2", 1, wait_s=20))
        await asyncio.sleep(0.002)
        submitting = asyncio.create_task(queue.submit("t", [submission(f"a{number}")], notify="g"))
        await asyncio.sleep(number % 10 * 0.0002)
        first.cancel()
        await asyncio.wait([first])
        await submitting
        if first.cancelled():
            async with asyncio.timeout(5):
                [claimed] = await second
            await other.finish("w2", [(claimed, b"r")])
        else:
            await queue.finish("w1", [(first.result()[0], b"r")])
            second.cancel()
            await asyncio.wait([second])
