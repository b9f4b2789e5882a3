"""Leases: what becomes of the calls of a worker that is gone, and that nothing becomes of a live one's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import redis.asyncio

from sandbox_service.models import Status
from sandbox_service.queue import Execution, Queue, Record
from tests.queue.conftest import LEASE_S, MakeQueue, fetch_one, result_of, submission

WaitUntil = Callable[..., Awaitable[None]]


async def crash(make_queue: MakeQueue, name: str, count: int = 1) -> list[Execution]:
    """A worker claims and dies: its heartbeat stops, it gives nothing back."""
    worker = await make_queue()
    await worker.join(name, {"default": "hash"})
    claimed = await worker.claim(name, count, wait_s=1)
    await worker.close()
    return claimed


def recovered(queue: Queue) -> Callable[[], Awaitable[bool]]:
    async def attempt() -> bool:
        return await queue.recover() > 0

    return attempt


async def test_a_lost_workers_call_runs_once_more(queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil) -> None:
    """It goes to the front of the queue as attempt 2; the lost worker's late result is refused."""
    await queue.submit("t", [submission("a"), submission("later")], notify="g")
    [lost] = await crash(make_queue, "w2")
    await wait_until(recovered(queue))
    assert await fetch_one(queue, "a") == Record("a", "queued", None)
    again, later = await queue.claim("w1", 2, wait_s=0)
    assert (again.id, again.attempt, again.payload) == ("a", 2, lost.payload)
    assert (later.id, later.attempt) == ("later", 1)
    assert again.queued_s > LEASE_S
    assert await queue.finish("w2", [(lost, b"zombie")]) == [False]
    assert await queue.finish("w1", [(again, b"right")]) == [True]
    assert await fetch_one(queue, "a") == Record("a", "done", b"right")


async def test_recovery_wakes_a_waiting_worker(queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil) -> None:
    """A worker that waits gets the recovered call without its periodic look."""
    await queue.submit("t", [submission("a")], notify="g")
    await crash(make_queue, "w2")
    waiting = asyncio.create_task(queue.claim("w1", 1, wait_s=10))
    await wait_until(recovered(queue))
    async with asyncio.timeout(0.5):
        assert (await waiting)[0].id == "a"


async def test_a_call_that_loses_two_workers_ends_as_our_fault(
    queue: Queue, make_queue: MakeQueue, redis_url: str, wait_until: WaitUntil
) -> None:
    """`infra_error`, retryable, two attempts; the dead-letter stream holds what is needed to replay it."""
    await queue.submit("t", [submission("a", labels={"run": "x"})], notify="g")
    for name in ("w2", "w3"):
        await crash(make_queue, name)
        await wait_until(recovered(queue))
    result = result_of(await fetch_one(queue, "a"))
    assert (result.status, result.retryable, result.attempts) == (Status.INFRA_ERROR, True, 2)
    assert result.labels == {"run": "x"}
    assert result.message
    assert await queue.depth() == 0
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        [(_, letter)] = await client.xrange(queue._keys["DEAD"])
    assert letter == {
        b"tenant": b"t",
        b"id": b"a",
        b"attempts": b"2",
        b"worker": b"w3",
        b"digest": b"digest of a",
        b"payload": b'{"code":"a"}',
    }


async def test_a_cancelled_call_of_a_lost_worker_ends_cancelled(
    queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil
) -> None:
    """Nobody waits for it any more: it is not run again."""
    await queue.submit("t", [submission("a")], notify="g")
    await crash(make_queue, "w2")
    await queue.cancel("t", ["a"])
    await wait_until(recovered(queue))
    assert result_of(await fetch_one(queue, "a")).status is Status.CANCELLED


async def test_a_lost_call_past_its_deadline_is_our_fault(
    queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil
) -> None:
    """It did start, so it is not `expired`: a caller must not be told that it never ran. No recoverer is needed."""
    await queue.submit("t", [submission("a", timeout_s=LEASE_S), submission("b", timeout_s=LEASE_S)], notify="g")
    await crash(make_queue, "w2")

    async def done() -> bool:
        return (await queue.fetch("t", ["a"]))[0] != Record("a", "running", None)

    await wait_until(done)
    result = result_of(await fetch_one(queue, "a"))
    assert (result.status, result.retryable, result.attempts) == (Status.INFRA_ERROR, True, 1)


async def test_many_recoverers_take_each_call_once(queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil) -> None:
    """Five recover at once, without a lock: together they take back exactly what was lost."""
    await queue.submit("t", [submission(f"a{n}") for n in range(50)], notify="g")
    await crash(make_queue, "w2", 50)
    others = [queue, *[await make_queue() for _ in range(4)]]
    counts: list[int] = []

    async def all_taken() -> bool:
        counts.extend(await asyncio.gather(*(each.recover() for each in others)))
        return sum(counts) >= 50

    await wait_until(all_taken)
    assert sum(counts) == 50
    claimed = await queue.claim("w1", 100, wait_s=0)
    assert [each.attempt for each in claimed] == [2] * 50


async def test_a_live_worker_keeps_a_long_call(queue: Queue, make_queue: MakeQueue) -> None:
    """A call that runs for several leases is not taken from a worker whose event loop is busy all the time."""
    await queue.submit("t", [submission("a")], notify="g")
    [execution] = await queue.claim("w1", 1, wait_s=0)
    other = await make_queue()
    until = time.monotonic() + 3 * LEASE_S
    while time.monotonic() < until:
        time.sleep(0.1)  # the heartbeat has a thread of its own
        assert await other.recover() == 0
        assert await queue.recover() == 0
    assert await queue.finish("w1", [(execution, b"r")]) == [True]


async def test_a_claim_whose_answer_was_lost_is_taken_back_by_its_own_worker(
    queue: Queue, wait_until: WaitUntil
) -> None:
    """The server started an attempt that the worker never heard of: the call does not hang until its deadline."""
    await queue.submit("t", [submission("lost"), submission("held")], notify="g")
    await queue._run("claim", "w1", 1, "default")
    [held] = await queue.claim("w1", 1, wait_s=0)
    await wait_until(recovered(queue))
    assert await queue.recover() == 0
    [again] = await queue.claim("w1", 2, wait_s=0)
    assert (again.id, again.attempt) == ("lost", 2)
    assert await queue.finish("w1", [(replace(again, attempt=1), b"late")]) == [False], (
        "the fence holds within a worker"
    )
    assert await queue.finish("w1", [(held, b"r")]) == [True]


async def test_a_worker_without_a_lease_gets_nothing(queue: Queue, make_queue: MakeQueue, redis_url: str) -> None:
    """Its calls would be taken away at once. It renews its lease first, and then claims."""
    await queue.submit("t", [submission("a")], notify="g")
    stranger = await make_queue()
    stranger._images = ["default"]
    assert await stranger.claim("nobody", 1, wait_s=0) == []
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(f"{queue._keys['WORKER']}w1")
    assert len(await queue.claim("w1", 1, wait_s=5)) == 1


async def test_a_worker_that_left_is_forgotten(
    queue: Queue, make_queue: MakeQueue, redis_url: str, wait_until: WaitUntil
) -> None:
    """Its images, its lease and its consumer are gone."""
    leaver = await make_queue()
    await leaver.join("w2", {"torch": "hash"})
    assert await queue.images() == {"default", "torch"}
    await queue.submit("t", [submission("a", image="torch")], notify="g")
    [execution] = await leaver.claim("w2", 1, wait_s=0)
    await leaver.release("w2", [execution])
    await leaver.leave("w2")
    assert await queue.images() == {"default"}
    async with redis.asyncio.Redis.from_url(redis_url) as client:

        async def forgotten() -> bool:
            await queue.recover()
            lane = f"{queue._keys['WORK']}torch:again:t"
            return await client.xinfo_consumers(lane, "workers") == []

        await wait_until(forgotten)


async def test_given_back_calls_do_not_use_up_attempts(queue: Queue) -> None:
    """A call may be given back any number of times: no attempt is counted, the payload stays the same."""
    await queue.submit("t", [submission("a")], notify="g")
    for _ in range(5):
        [execution] = await queue.claim("w1", 1, wait_s=0)
        assert (execution.attempt, execution.payload) == (1, b'{"code":"a"}')
        await queue.release("w1", [execution])
    assert await queue.depth() == 1


async def test_a_repetition_by_the_worker_itself_is_the_second_attempt(
    queue: Queue, make_queue: MakeQueue, redis_url: str
) -> None:
    """A call that loses its jail and then its worker has had both of its attempts: no third one starts."""
    await queue.submit("t", [submission("a")], notify="g")
    [first] = await queue.claim("w1", 1, wait_s=0)
    second = await queue.retry("w1", first)
    assert second == replace(first, attempt=2)
    assert await queue.retry("w1", first) is None, "the fence holds within a worker"
    assert await queue.retry("w1", second) is None, "two are the most"
    assert await queue.finish("w1", [(first, b"late")]) == [False]
    other = await make_queue()
    await queue._stop_heartbeat()
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(f"{queue._keys['WORKER']}w1")
    await other.recover()
    record = await fetch_one(other, "a")
    assert result_of(record).status is Status.INFRA_ERROR
    assert [letter.id for letter in await other.letters.latest(10)] == ["a"]
