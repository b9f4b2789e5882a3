"""Cancelling calls by id and by label, queued and running."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sandbox_service.models import Status
from sandbox_service.queue import Queue, Record
from tests.queue.conftest import MakeQueue, fetch_one, result_of, submission

WaitUntil = Callable[..., Awaitable[None]]


class Listener:
    """Collects the cancellations that a worker hears of."""

    def __init__(self, queue: Queue, worker: str) -> None:
        self.heard: list[tuple[str, str]] = []
        self._task = asyncio.create_task(self._listen(queue, worker))

    async def _listen(self, queue: Queue, worker: str) -> None:
        async for name in queue.cancellations(worker):
            self.heard.append(name)

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_a_queued_call_never_starts(queue: Queue) -> None:
    """It is done at once, with a complete Result; no worker gets it; unknown ids answer None."""
    await queue.submit("t", [submission("a", labels={"run": "ü/\"'"})], notify="g")
    assert await queue.cancel("t", ["a", "nobody"]) == ["done", None]
    result = result_of(await fetch_one(queue, "a"))
    assert (result.id, result.status, result.attempts) == ("a", Status.CANCELLED, 0)
    assert result.labels == {"run": "ü/\"'"}
    assert await queue.claim("w1", 1, wait_s=0) == []


async def test_a_running_call_is_announced_to_its_worker(queue: Queue, wait_until: WaitUntil) -> None:
    """The worker hears of it fast, and its result is the one that counts; cancelling a done call changes nothing."""
    await queue.submit("t", [submission("a"), submission("b")], notify="g")
    first, second = await queue.claim("w1", 2, wait_s=0)
    async with Listener(queue, "w1") as listener:
        await asyncio.sleep(0.1)
        assert await queue.cancel("t", ["a"]) == ["running"]
        await wait_until(lambda: ("t", "a") in listener.heard, timeout_s=0.25)
        assert ("t", "b") not in listener.heard
    await queue.finish("w1", [(first, b"killed"), (second, b"fine")])
    assert await queue.cancel("t", ["a", "b"]) == ["done", "done"]
    assert await fetch_one(queue, "a") == Record("a", "done", b"killed")


async def test_a_message_that_is_no_cancellation_ends_nothing(queue: Queue, wait_until: WaitUntil) -> None:
    """As one of another version would be: what is to be killed is looked up instead."""
    await queue.submit("t", [submission("a")], notify="g")
    await queue.claim("w1", 1, wait_s=0)
    channel = queue._keys["CANCELS"] + "w1"
    async with Listener(queue, "w1") as listener:
        for message in (b'[["t", "a"]]', b"1:t", b"x:", b"1:t1:\xff", b"9"):
            await queue._link.command("PUBLISH", channel, message)
        await queue.cancel("t", ["a"])
        await wait_until(lambda: ("t", "a") in listener.heard)


async def test_a_cancellation_that_nobody_heard_is_found(queue: Queue, wait_until: WaitUntil) -> None:
    """The worker was not connected when the message came: the flag tells it."""
    await queue.submit("t", [submission("a")], notify="g")
    await queue.claim("w1", 1, wait_s=0)
    await queue.cancel("t", ["a"])
    async with Listener(queue, "w1") as listener:
        await wait_until(lambda: listener.heard == [("t", "a")])


async def test_a_cancellation_survives_a_lost_connection(
    queue: Queue, make_queue: MakeQueue, redis_url: str, wait_until: WaitUntil
) -> None:
    """All connections are cut: the listener comes back by itself and hears what comes then."""
    await queue.submit("t", [submission("a")], notify="g")
    await queue.claim("w1", 1, wait_s=0)
    async with Listener(queue, "w1") as listener:
        await asyncio.sleep(0.1)
        await queue._link.client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await queue.cancel("t", ["a"])
        await wait_until(lambda: ("t", "a") in listener.heard)


async def test_a_label_cancels_queued_and_running_calls_of_one_tenant(queue: Queue, wait_until: WaitUntil) -> None:
    """Only calls with exactly this label and tenant, on every lane and page; a second request finds none."""
    labels = {"run": "dead", "step": "1"}
    calls = [submission(f"q{n}", labels=labels, priority=("interactive", "batch")[n % 2]) for n in range(1100)]
    await queue.submit("t", [submission("running", labels=labels)], notify="g")
    await queue.claim("w1", 1, wait_s=0)
    await queue.submit("t", calls, notify="g")
    await queue.submit("t", [submission("other", labels={"run": "dea"}), submission("none")], notify="g")
    await queue.submit("u", [submission("foreign", labels=labels)], notify="g")
    async with Listener(queue, "w1") as listener:
        assert await queue.cancel_label("t", "run", "dead") == 1101
        await wait_until(lambda: ("t", "running") in listener.heard)
    assert await queue.cancel_label("t", "run", "dead") == 0
    assert await queue.cancel_label("t", "step", "2") == 0
    assert sorted(each.id for each in await queue.claim("w1", 2000, wait_s=0)) == ["foreign", "none", "other"]
    assert result_of(await fetch_one(queue, "q1099")).status is Status.CANCELLED


async def test_a_cancelled_call_that_is_given_back_ends_cancelled(queue: Queue) -> None:
    """A draining worker gives back a call whose cancellation it had not carried out: it is not queued again."""
    await queue.submit("t", [submission("a")], notify="g")
    given_back = await queue.claim("w1", 1, wait_s=0)
    await queue.cancel("t", ["a"])
    await queue.release("w1", given_back)
    assert result_of(await fetch_one(queue, "a")).status is Status.CANCELLED
    assert await queue.depth() == 0
