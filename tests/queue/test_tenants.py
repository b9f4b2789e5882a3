"""Tenants: shares by weight, quotas, and the bounds of the whole service; what is refused says when to come back."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from sandbox_service.errors import Conflict, Overloaded, QuotaExceeded
from sandbox_service.queue import Policy, Queue, Record
from tests.queue.conftest import MakeQueue, fetch_one, submission

LEASE_S = 60.0
"""Nobody's lease runs out here, however busy the machine is."""


@pytest.fixture
async def queue(make_queue: MakeQueue) -> Queue:
    queue = await make_queue(lease_s=LEASE_S)
    await queue.join("w1", {"default": "hash"})
    return queue


async def fill(
    queue: Queue, tenant: str, count: int, policy: Policy | None = None, *, id_from: int = 0, **changes: object
) -> None:
    end = id_from + count
    for first in range(id_from, end, 500):
        calls = [submission(f"{tenant}{n}", timeout_s=600, **changes) for n in range(first, min(end, first + 500))]
        await queue.submit(tenant, calls, notify="g", policy=policy or Policy())


async def serve(queue: Queue, count: int, at_once: int = 4) -> Counter[str]:
    """Claim and finish this many calls; answer whose they were."""
    served: Counter[str] = Counter()
    while served.total() < count:
        claimed = await queue.claim("w1", at_once, wait_s=0)
        if not claimed:
            break
        served.update(each.tenant for each in claimed)
        await queue.finish("w1", [(each, b"r") for each in claimed], cpu_s=[0.5] * len(claimed))
    return served


async def backlog(queue: Queue) -> tuple[int, int]:
    """(queued, bytes) as they are counted while running."""
    counts = await queue._link.client.hmget(queue._keys["BACKLOG"], "queued", "bytes")
    return int(counts[0] or 0), int(counts[1] or 0)


async def test_a_call_beside_45000_of_another_tenant_is_next(make_queue: MakeQueue) -> None:
    """The depth of one tenant's queue is nothing to another's call: it is in the very next claim, or the one after."""
    queue = await make_queue(max_queued=50_000, lease_s=LEASE_S)
    await queue.join("w1", {"default": "hash"})
    await fill(queue, "big", 45_000)
    await serve(queue, 100)
    await queue.submit("small", [submission("a")], notify="g")
    claimed = [each.tenant for _ in range(2) for each in await queue.claim("w1", 4, wait_s=0)]
    assert "small" in claimed
    assert await backlog(queue) == (45_001 - 100 - 8, pytest.approx(44_900 * 20, rel=0.2))


async def test_shares_follow_the_weights(queue: Queue) -> None:
    """Three tenants with all they want queued are served 4 : 2 : 1; calls that take as long as each other."""
    for tenant, weight in (("a", 4), ("b", 2), ("c", 1)):
        await fill(queue, tenant, 300, Policy(weight=weight))
    for tenant in "abc":
        await queue._link.client.hset(queue._keys["TENANT"] + tenant, "service", 10_000)
    served: Counter[str] = Counter()
    for _ in range(70):
        claimed = await queue.claim("w1", 4, wait_s=0)
        served.update(each.tenant for each in claimed)
    assert served["a"] == pytest.approx(160, abs=8)
    assert served["b"] == pytest.approx(80, abs=8)
    assert served["c"] == pytest.approx(40, abs=8)


async def test_who_has_long_calls_gets_fewer_of_them(queue: Queue) -> None:
    """The share is of the slots' time, not of calls."""
    await fill(queue, "long", 200)
    await fill(queue, "short", 200)
    await queue._link.client.hset(queue._keys["TENANT"] + "long", "service", 90_000)
    await queue._link.client.hset(queue._keys["TENANT"] + "short", "service", 10_000)
    served: Counter[str] = Counter()
    for _ in range(25):
        served.update(each.tenant for each in await queue.claim("w1", 4, wait_s=0))
    assert served == {"short": pytest.approx(90, abs=4), "long": pytest.approx(10, abs=4)}


async def test_a_small_weight_is_not_evaded_by_asking_one_by_one(queue: Queue) -> None:
    """A tenant that ran dry owes what it had beyond its share when it comes back."""
    await fill(queue, "big", 400, Policy(weight=9))
    await queue._link.client.hset(queue._keys["TENANT"] + "big", "service", 3_600_000_000)
    await queue._link.client.hset(queue._keys["TENANT"] + "one", "service", 3_600_000_000)
    served: Counter[str] = Counter()
    for n in range(100):
        await queue.submit("one", [submission(f"one{n}", timeout_s=9e5)], notify="g", policy=Policy(weight=1))
        served.update(each.tenant for each in await queue.claim("w1", 1, wait_s=0))
        await queue.cancel("one", [f"one{n}"])
        await queue.submit("one", [submission(f"one{n}x")], notify="g", policy=Policy(weight=1))
    assert 5 <= served["one"] <= 20


async def test_most_in_flight_is_kept_and_the_rest_waits(queue: Queue, make_queue: MakeQueue) -> None:
    """No more than the limit runs at once, on all workers together; the end of one lets the next start."""
    other = await make_queue(lease_s=LEASE_S)
    await other.join("w2", {"default": "hash"})
    await fill(queue, "t", 10, Policy(in_flight=3))
    first = await queue.claim("w1", 2, wait_s=0)
    assert len(await other.claim("w2", 8, wait_s=0)) == 1
    await fill(queue, "u", 1)
    assert [each.tenant for each in await other.claim("w2", 8, wait_s=0)] == ["u"], "others are not held up"
    waiting = asyncio.create_task(other.claim("w2", 8, wait_s=5))
    await queue.finish("w1", [(first[0], b"r")])
    assert len(await waiting) == 1


async def test_most_queued(queue: Queue) -> None:
    """What does not fit is refused as a whole, others are not concerned, and there is room again later."""
    policy = Policy(queued=5)
    await fill(queue, "t", 5, policy)
    with pytest.raises(QuotaExceeded, match="5 calls of this tenant are queued and at most 5") as caught:
        await queue.submit("t", [submission("more")], notify="g", policy=policy)
    assert caught.value.retry_after_s
    assert await fetch_one(queue, "more") is None
    await queue.submit("t", [submission("t0")], notify="g", policy=policy)  # a repeat
    await fill(queue, "u", 50)
    await serve(queue, 3)
    await queue.submit("t", [submission("more")], notify="g", policy=policy)


async def test_calls_per_second(queue: Queue) -> None:
    """A burst passes, then the rate holds; the time to come back is the time that it takes. A batch larger than the
    burst passes when nothing is owed, and is owed then."""
    policy = Policy(rate=20, burst=10)
    await fill(queue, "t", 10, policy)
    with pytest.raises(QuotaExceeded) as caught:
        await queue.submit("t", [submission(f"x{n}") for n in range(10)], notify="g", policy=policy)
    assert 0.05 <= (caught.value.retry_after_s or 0) <= 0.5
    await asyncio.sleep((caught.value.retry_after_s or 0) + 0.01)
    await queue.submit("t", [submission(f"x{n}") for n in range(30)], notify="g", policy=policy)
    with pytest.raises(QuotaExceeded) as caught:
        await queue.submit("t", [submission("y")], notify="g", policy=policy)
    assert 0.5 < (caught.value.retry_after_s or 0) <= 1.1


async def test_cpu_seconds_per_hour(queue: Queue) -> None:
    """What its calls used counts against the tenant and fades in time; the wait is how long that takes."""
    policy = Policy(cpu_s_per_hour=3)
    await fill(queue, "t", 8, policy)
    await serve(queue, 8)
    with pytest.raises(QuotaExceeded, match="used 4 s of CPU time") as caught:
        await queue.submit("t", [submission("more")], notify="g", policy=policy)
    assert caught.value.retry_after_s == pytest.approx(1200, rel=0.05)
    await queue._link.client.hincrbyfloat(queue._keys["TENANT"] + "t", "cpu_at", -3600e6)  # an hour later
    await queue.submit("t", [submission("more")], notify="g", policy=policy)


async def test_each_is_admitted_by_itself(make_queue: MakeQueue) -> None:
    """Calls of strangers share a round trip: a conflict, and what is beyond the bound, fail alone."""
    queue = await make_queue(max_queued=3)
    await queue.submit("t", [submission("a")], notify="g")
    calls = [submission("a", digest="other"), submission("b"), submission("c"), submission("d"), submission("d")]
    conflict, b, c, *refused = await queue.submit_each("t", [*calls, submission("a")], notify="g")
    assert isinstance(conflict, Conflict)
    assert (b, c) == (Record("b", "queued", None), Record("c", "queued", None))
    assert isinstance(refused[0], Overloaded)
    assert isinstance(refused[1], Overloaded)
    assert refused[2] == Record("a", "queued", None)
    assert await queue.depth() == 3


async def test_bytes_are_bounded_and_come_back(make_queue: MakeQueue) -> None:
    """Payloads of unfinished calls count, running ones too; when they end there is room again."""
    queue = await make_queue(max_queued_mb=1, lease_s=LEASE_S)
    await queue.join("w1", {"default": "hash"})
    big = b"x" * 400_000
    await queue.submit("t", [submission("a", payload=big), submission("b", payload=big)], notify="g")
    claimed = await queue.claim("w1", 2, wait_s=0)
    with pytest.raises(Overloaded, match="800000 bytes of calls are unfinished"):
        await queue.submit("t", [submission("c", payload=big)], notify="g")
    await queue.finish("w1", [(claimed[0], b"r")])
    await queue.submit("t", [submission("c", payload=big)], notify="g")
    await queue.cancel("t", ["c"])
    await queue.finish("w1", [(claimed[1], b"r")])
    assert await backlog(queue) == (0, 0)


async def test_a_call_that_would_wait_past_its_deadline_is_refused(queue: Queue) -> None:
    """By how long this tenant's calls took of late, the slots, and its share; interactive calls pass batch ones. The
    time to come back is when it would be in time."""
    await queue.images()  # a gateway does, which tells it of the slots: one here
    await fill(queue, "t", 50, priority="batch")
    await queue._link.client.hset(queue._keys["TENANT"] + "t", "service", 100_000)
    with pytest.raises(Overloaded, match=r"would wait about 5.0 s, too long for its deadline in 2.0 s") as caught:
        await queue.submit("t", [submission("late", timeout_s=2, priority="batch")], notify="g")
    assert caught.value.retry_after_s == pytest.approx(4.0, abs=0.5)
    assert await queue.fetch("t", ["late"]) == [None]
    assert await queue.depth() == 50
    await queue.submit("t", [submission("patient", timeout_s=20, priority="batch")], notify="g")
    await queue.submit("t", [submission("first", timeout_s=2)], notify="g")
    await queue.submit("u", [submission("other", timeout_s=2)], notify="g")


async def test_counts_are_corrected_by_what_is_there(queue: Queue) -> None:
    """Keys removed by hand make the counts wrong; recovery sets them right, and what is queued gets its turn."""
    await fill(queue, "t", 3)
    await queue._link.client.delete(*(queue._keys[key] + name for key, name in (("TENANT", "t"), ("TURNS", "default"))))
    await queue._link.client.delete(queue._keys["BACKLOG"])
    assert await queue.claim("w1", 8, wait_s=0) == []
    assert await queue.depth() == 3
    assert await serve(queue, 3) == {"t": 3}
    assert await queue.depth() == 0


async def _claim_slowly(queue: Queue, times: int, pause_s: float) -> None:
    for _ in range(times):
        assert len(await queue.claim("w1", 1, wait_s=0)) == 1
        await asyncio.sleep(pause_s)


async def test_the_wait_is_estimated_from_how_fast_the_backlog_is_claimed(queue: Queue) -> None:
    """Slots that are idle between calls, lost workers, a slower machine: the mean time in a slot knows of none of them,
    the pace of the claims does. It is forgotten once nothing waits."""
    await queue.images()
    await fill(queue, "t", 60)
    await queue._link.client.hset(queue._keys["TENANT"] + "t", "service", 1_000)  # by which 40 calls are gone in 40 ms
    late = submission("late", timeout_s=1.5)
    await queue.submit("t", [submission("early", timeout_s=1.5)], notify="g")
    await _claim_slowly(queue, 20, 0.05)
    with pytest.raises(Overloaded, match=r"would wait about [2-9]\.\d s, too long for its deadline in 1\.5 s"):
        await queue.submit("t", [late], notify="g")
    await serve(queue, 100)
    await fill(queue, "t", 40, id_from=100)
    await queue.submit("t", [late], notify="g")


async def test_a_pause_in_which_nothing_was_queued_is_no_pace(queue: Queue) -> None:
    """What was queued is cancelled; the time until others come says nothing of how long they will wait."""
    await queue.images()
    await fill(queue, "t", 40)
    await _claim_slowly(queue, 20, 0)
    await queue.cancel("t", [f"t{n}" for n in range(40)])
    await asyncio.sleep(2.0)
    await queue.submit("t", [submission(f"late{n}", timeout_s=1) for n in range(40)], notify="g")
