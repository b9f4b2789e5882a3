"""The life of a call: admitted, started, finished; who may change it, and what is refused."""

from __future__ import annotations

import asyncio
import os
import zlib

import pytest
import redis.asyncio

from sandbox_service.errors import Conflict, Overloaded
from sandbox_service.models import Status
from sandbox_service.queue import Ended, Queue, Record
from sandbox_service.queue.records import PACKED_UP_TO
from tests.queue.conftest import MakeQueue, fetch_one, result_of, submission


async def test_a_call_goes_from_queued_to_running_to_done(queue: Queue) -> None:
    """Each state is seen by `fetch`; the worker gets payload, fence and times; the result comes back raw."""
    assert await queue.submit("t", [submission("a")], notify="g") == [Record("a", "queued", None)]
    assert await queue.depth() == 1
    [execution] = await queue.claim("w1", 8, wait_s=0)
    assert (execution.tenant, execution.id, execution.attempt) == ("t", "a", 1)
    assert execution.payload == b'{"code":"a"}'
    assert execution.admitted_s == pytest.approx(0.25)
    assert 0 <= execution.queued_s < 5
    assert 25 < execution.remaining_s <= 30
    assert await fetch_one(queue, "a") == Record("a", "running", None)
    assert await queue.depth() == 0
    assert await queue.finish("w1", [(execution, b"\x00any bytes\xff")]) == [True]
    assert await fetch_one(queue, "a") == Record("a", "done", b"\x00any bytes\xff")


async def test_nothing_of_a_call_stays_but_its_result(queue: Queue, redis_url: str) -> None:
    """After the end the payload is gone, the stream and its pending list are empty."""
    await queue.submit("t", [submission("a", labels={"run": "x"})], notify="g")
    [execution] = await queue.claim("w1", 1, wait_s=0)
    await queue.finish("w1", [(execution, b"r")])
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        lane = f"{queue._keys['WORK']}default:interactive:t"
        assert await client.xlen(lane) == 0
        assert (await client.xpending(lane, "workers"))["pending"] == 0
        fields = await client.hkeys(f"{queue._keys['CALL']}t:a")
        assert sorted(fields) == [b"attempt", b"digest", b"owner", b"result", b"state"]


@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (b'{"stdout":"%s"}' % (b"0123456789" * 6_400), 2_000),
        (b'{"stdout":"%s"}' % os.urandom(1_000), 2_000),
        (bytes(PACKED_UP_TO + 1), PACKED_UP_TO + 1),
        (zlib.compress(b"{}"), 100),
    ],
    ids=["compressible", "small", "too large", "begins as what is compressed"],
)
async def test_a_result_takes_little_room_and_comes_back_as_it_was(
    queue: Queue, redis_url: str, result: bytes, kept: int
) -> None:
    """Also for who submits it again, alone or with others."""
    await queue.submit("t", [submission("a")], notify="g")
    [execution] = await queue.claim("w1", 1, wait_s=0)
    await queue.finish("w1", [(execution, result)])
    done = Record("a", "done", result)
    assert await fetch_one(queue, "a") == done
    assert await queue.submit("t", [submission("a")], notify="g") == [done]
    assert await queue.submit_each("t", [submission("a")], notify="g") == [done]
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.hstrlen(f"{queue._keys['CALL']}t:a", "result") <= kept


async def test_a_repeat_answers_the_existing_record(queue: Queue) -> None:
    """The same id and digest runs once, whether the first is queued, running or done, and also within one request."""
    twice = [submission("a"), submission("a")]
    assert [record.state for record in await queue.submit("t", twice, notify="g")] == ["queued", "queued"]
    [execution] = await queue.claim("w1", 8, wait_s=0)
    assert await queue.submit("t", [submission("a")], notify="g") == [Record("a", "running", None)]
    await queue.finish("w1", [(execution, b"once")])
    assert await queue.submit("t", [submission("a")], notify="g") == [Record("a", "done", b"once")]
    assert await queue.claim("w1", 8, wait_s=0) == []


async def test_a_hundred_repeats_at_once_run_once(queue: Queue, make_queue: MakeQueue) -> None:
    """Two gateways that admit the same call a hundred times at once make one execution."""
    other = await make_queue()
    await asyncio.gather(*((queue, other)[n % 2].submit("t", [submission("a")], notify="g") for n in range(100)))
    assert len(await queue.claim("w1", 100, wait_s=0)) == 1


async def test_another_body_under_the_same_id_conflicts_and_admits_nothing(queue: Queue) -> None:
    """All or none: the good call beside a conflicting one is not admitted; the error names the field."""
    await queue.submit("t", [submission("a")], notify="g")
    with pytest.raises(Conflict, match="'a' was submitted before") as caught:
        await queue.submit("t", [submission("b"), submission("a", digest="other")], notify="g")
    assert caught.value.field == "calls.1.id"
    assert await fetch_one(queue, "b") is None
    with pytest.raises(Conflict):
        await queue.submit("t", [submission("c"), submission("c", digest="other")], notify="g")
    assert await fetch_one(queue, "c") is None


async def test_tenants_do_not_see_each_other(queue: Queue) -> None:
    """The same id of two tenants is two calls; neither can read, cancel or conflict with the other's."""
    await queue.submit("t", [submission("a")], notify="g")
    assert await fetch_one(queue, "a", tenant="u") is None
    assert await queue.cancel("u", ["a"]) == [None]
    assert await queue.cancel_label("u", "run", "x") == 0
    await queue.submit("u", [submission("a", digest="another")], notify="g")
    claimed = await queue.claim("w1", 8, wait_s=0)
    assert {(each.tenant, each.id) for each in claimed} == {("t", "a"), ("u", "a")}
    await queue.finish("w1", [(each, each.tenant.encode()) for each in claimed])
    assert await fetch_one(queue, "a", tenant="u") == Record("a", "done", b"u")


async def test_a_batch_is_known_by_its_id(queue: Queue) -> None:
    """Ids come back in order; a repeat is welcome; another body conflicts and admits nothing; unknown is None."""
    calls = [submission("z"), submission("a"), submission("m")]
    await queue.submit("t", calls, batch="b", notify="g")
    assert await queue.fetch_batch("t", "b") == ["z", "a", "m"]
    assert await queue.fetch_batch("u", "b") is None
    assert await queue.fetch_batch("t", "c") is None
    assert len(await queue.submit("t", calls, batch="b", notify="g")) == 3
    with pytest.raises(Conflict, match="batch 'b'"):
        await queue.submit("t", [*calls, submission("new")], batch="b", notify="g")
    assert await fetch_one(queue, "new") is None
    assert await queue.depth() == 3


async def test_too_much_is_refused_before_acceptance(make_queue: MakeQueue) -> None:
    """Beyond max_queued nothing of a submission is admitted; repeats still pass; running calls do not count."""
    queue = await make_queue(max_queued=3)
    await queue.join("w1", {"default": "hash"})
    await queue.submit("t", [submission("a"), submission("b")], notify="g")
    with pytest.raises(Overloaded) as caught:
        await queue.submit("t", [submission("c"), submission("d")], notify="g")
    assert caught.value.retry_after_s
    assert await queue.fetch("t", ["c", "d"]) == [None, None]
    assert len(await queue.submit("t", [submission("a"), submission("c")], notify="g")) == 2
    await queue.claim("w1", 2, wait_s=0)
    await queue.submit("t", [submission("d"), submission("e")], notify="g")


async def test_two_workers_share_the_work_without_overlap(queue: Queue, make_queue: MakeQueue) -> None:
    """Claims of two workers at once hold every call exactly once."""
    other = await make_queue()
    await other.join("w2", {"default": "hash"})
    names = [f"c{n}" for n in range(200)]
    await queue.submit("t", [submission(name) for name in names], notify="g")
    rounds = await asyncio.gather(
        *(each.claim(worker, 7, wait_s=0) for _ in range(20) for each, worker in ((queue, "w1"), (other, "w2")))
    )
    assert sorted(each.id for claimed in rounds for each in claimed) == sorted(names)


async def test_lanes_are_claimed_in_order(queue: Queue) -> None:
    """First what was given back, then interactive calls, then batch ones; within a lane the oldest first."""
    await queue.submit("t", [submission("again")], notify="g")
    given_back = await queue.claim("w1", 1, wait_s=0)
    await queue.submit("t", [submission("slow", priority="batch"), submission("1"), submission("2")], notify="g")
    await queue.release("w1", given_back)
    assert [each.id for each in await queue.claim("w1", 9, wait_s=0)] == ["again", "1", "2", "slow"]


async def test_a_worker_gets_only_images_it_serves(queue: Queue) -> None:
    """A call for another image stays queued for a worker that has it."""
    await queue.submit("t", [submission("a", image="torch")], notify="g")
    assert await queue.claim("w1", 1, wait_s=0) == []
    assert await queue.depth() == 1
    assert await queue.images() == {"default"}


async def test_a_late_attempt_is_refused_as_stale(queue: Queue) -> None:
    """The fence: after a second attempt began, the first one's result is refused and the second's stands."""
    await queue.submit("t", [submission("a")], notify="g")
    [first] = await queue.claim("w1", 1, wait_s=0)
    await queue.release("w1", [first])
    assert await queue.finish("w1", [(first, b"released")]) == [False]
    [second] = await queue.claim("w1", 1, wait_s=0)
    assert second.attempt == 1, "an attempt that was given back is not counted"
    assert await queue.finish("w2", [(second, b"not its owner")]) == [False]
    assert await queue.finish("w1", [(second, b"right")]) == [True]
    assert await fetch_one(queue, "a") == Record("a", "done", b"right")


async def test_the_first_finish_wins_and_may_be_repeated(queue: Queue) -> None:
    """A finish whose answer was lost is repeated and told it is stored; the stored result does not change."""
    await queue.submit("t", [submission("a")], notify="g")
    [execution] = await queue.claim("w1", 1, wait_s=0)
    assert await queue.finish("w1", [(execution, b"first")]) == [True]
    assert await queue.finish("w1", [(execution, b"second")]) == [True]
    assert await fetch_one(queue, "a") == Record("a", "done", b"first")


@pytest.mark.parametrize("noticed_by", ["claim", "fetch", "submit", "recover"])
async def test_a_call_past_its_deadline_never_runs(queue: Queue, noticed_by: str, wait_until) -> None:
    """It ends as `expired`, whoever notices first, with its labels and the time it waited; it is never claimed."""
    await queue.submit("t", [submission("a", timeout_s=0.05, labels={"run": "x"})], notify="g")
    await asyncio.sleep(0.06)
    if noticed_by == "claim":
        assert await queue.claim("w1", 1, wait_s=0) == []
    elif noticed_by == "submit":
        assert [each.state for each in await queue.submit("t", [submission("a")], notify="g")] == ["done"]
    elif noticed_by == "recover":

        async def swept() -> bool:
            await queue.recover()
            return await queue.depth() == 0

        await wait_until(swept)
    result = result_of(await fetch_one(queue, "a"))
    assert (result.id, result.status, result.attempts) == ("a", Status.EXPIRED, 0)
    assert result.labels == {"run": "x"}
    assert result.timings.admitted == 0.25
    assert result.timings.queued >= 0.05
    assert result.timings.total == pytest.approx(0.25 + result.timings.queued)
    assert (result.worker, result.image, result.retryable) == (None, None, False)
    assert await queue.depth() == 0
    assert await queue.claim("w1", 1, wait_s=0) == []


async def test_a_result_past_its_time_is_gone_and_then_unknown(make_queue: MakeQueue, wait_until) -> None:
    """Done, then gone for as long again, then unknown; a batch is known as long as its calls are."""
    queue = await make_queue(result_ttl_s=0.3)
    await queue.join("w1", {"default": "hash"})
    await queue.submit("t", [submission("a", timeout_s=0.5)], batch="b", notify="g")
    await queue.finish("w1", [(each, b"r") for each in await queue.claim("w1", 1, wait_s=0)])

    async def is_now(expected: Record | None) -> bool:
        return await fetch_one(queue, "a") == expected

    assert await is_now(Record("a", "done", b"r"))
    await wait_until(lambda: is_now(Record("a", "gone", None)))
    assert await queue.fetch_batch("t", "b") == ["a"]
    assert await queue.cancel("t", ["a"]) == ["gone"]
    await wait_until(lambda: is_now(None))


async def test_ends_are_announced_to_everyone_who_asked(queue: Queue, make_queue: MakeQueue) -> None:
    """Submitter, fetcher and repeater each hear of the end once, in one message for many calls; others nothing."""
    heard: dict[str, list[list[Ended]]] = {"g1": [], "g2": [], "g3": [], "g4": []}

    async def listen(channel: str) -> None:
        async for message in queue.finished(channel):
            heard[channel].append(message)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(listen(channel)) for channel in heard]
        async with asyncio.timeout(5):
            while not all(heard.values()):  # the empty list: subscribed
                await asyncio.sleep(0.005)
        await queue.submit("t", [submission("a"), submission("b")], notify="g1")
        await queue.fetch("t", ["b"], notify="g2")
        await queue.fetch("t", ["b"], notify="g2")
        await queue.submit("t", [submission("a")], notify="g3")
        await queue.finish("w1", [(each, b"r") for each in await queue.claim("w1", 2, wait_s=0)])
        async with asyncio.timeout(5):
            while any(len(heard[channel]) < 2 for channel in ("g1", "g2", "g3")):
                await asyncio.sleep(0.005)
        for task in tasks:
            task.cancel()
    both = [Ended("t", "a", b"r"), Ended("t", "b", b"r")]
    assert heard == {"g1": [[], both], "g2": [[], both[1:]], "g3": [[], both[:1]], "g4": [[]]}


async def test_an_announcement_brings_the_result_unless_it_is_large(queue: Queue) -> None:
    """As it was stored: any bytes, compressed or not, of several calls in one message."""
    results = [b'{"a":"\x00:\xff"}', b"1:", zlib.compress(b"{}"), b"7" * 100_000, os.urandom(100_000)]
    names = [str(number) for number in range(len(results))]
    heard = queue.finished("g")
    async with asyncio.timeout(5):
        assert await anext(heard) == []
        await queue.submit("t", [submission(name) for name in names], notify="g")
        executions = await queue.claim("w1", len(names), wait_s=0)
        await queue.finish("w1", list(zip(executions, results, strict=True)))
        assert await anext(heard) == [
            Ended("t", name, result if name != names[-1] else None) for name, result in zip(names, results, strict=True)
        ]
    await heard.aclose()  # type: ignore[attr-defined]
