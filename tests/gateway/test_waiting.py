"""Waits when announcements get lost, when the queue forgets, when nothing comes at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sandbox_service.errors import ServiceFault, Unavailable
from sandbox_service.gateway import waiting
from sandbox_service.gateway.wait import Wait
from sandbox_service.gateway.waiting import Waiting
from sandbox_service.queue import Ended, Record
from tests.conftest import WaitUntil


class FakeQueue:
    """Only what Waiting asks of a queue, so that a test decides what is announced and what is known."""

    def __init__(self) -> None:
        self.announcements: asyncio.Queue[list[Ended]] = asyncio.Queue()
        self.records: dict[str, Record | None] = {}
        self.fetched: list[list[str]] = []
        self.fault: Exception | None = None

    async def finished(self, channel: str) -> AsyncIterator[list[Ended]]:
        while True:
            yield await self.announcements.get()

    async def fetch(self, tenant: str, ids: list[str], *, notify: str | None = None) -> list[Record | None]:
        self.fetched.append(ids)
        if self.fault is not None:
            raise self.fault
        return [self.records.get(call_id) for call_id in ids]

    async def abandon(self, tenant: str, ids: list[str], *, notify: str) -> None:
        raise AssertionError("nothing is cancelled here")

    def finish(self, call_id: str) -> None:
        self.records[call_id] = Record(call_id, "done", b"{}")


@pytest.fixture
def queue() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
async def waits(queue: FakeQueue) -> AsyncIterator[Waiting]:
    served = Waiting(queue, "channel", cancel_abandoned=True)  # type: ignore[arg-type]
    task = asyncio.create_task(served.run())
    yield served
    task.cancel()
    await asyncio.wait([task])


def begin(waits: Waiting, *ids: str, timeout_s: float = 60) -> Wait:
    wait = waits.open("t", ids, name="call x")
    deadline = asyncio.get_running_loop().time() + timeout_s
    waits.admitted(wait, [deadline] * len(ids))
    return wait


async def test_a_lost_announcement_costs_about_a_second(waits: Waiting, queue: FakeQueue) -> None:
    """Every waited call is looked at from time to time."""
    queue.records["x"] = Record("x", "running", None)
    with begin(waits, "x") as wait:
        queue.finish("x")
        async with asyncio.timeout(2):
            assert await wait.all() == [b"{}"]


async def test_a_reconnect_looks_at_everything_at_once(waits: Waiting, queue: FakeQueue) -> None:
    """An empty announcement means that some were lost: no need to wait for the next look."""
    with begin(waits, "x", "y") as wait:
        queue.finish("x")
        queue.finish("y")
        queue.announcements.put_nowait([])
        async with asyncio.timeout(0.5):
            await wait.all()


async def test_many_results_come_in_few_round_trips(waits: Waiting, queue: FakeQueue) -> None:
    """1,000 calls whose results were too large to be announced are fetched 256 at a time."""
    ids = [str(number) for number in range(1000)]
    with begin(waits, *ids) as wait:
        for call_id in ids:
            queue.finish(call_id)
            queue.announcements.put_nowait([Ended("t", call_id, None)])
        await wait.all()
    assert len(queue.fetched) < 30
    assert max(map(len, queue.fetched)) <= waiting.FETCH_MANY


async def test_an_announced_result_is_not_fetched(waits: Waiting, queue: FakeQueue) -> None:
    with begin(waits, "x", "y") as wait:
        queue.announcements.put_nowait([Ended("t", "x", b"1"), Ended("t", "y", b"2")])
        assert await wait.all() == [b"1", b"2"]
    assert queue.fetched == []


async def test_announcements_of_strangers_cost_nothing(waits: Waiting, queue: FakeQueue) -> None:
    """Nobody waits for them: they are not fetched."""
    queue.announcements.put_nowait([Ended("t", "stranger", None), Ended("t", "another", b"{}")])
    with begin(waits, "x") as wait:
        queue.finish("x")
        queue.announcements.put_nowait([Ended("other", "x", b"wrong"), Ended("t", "x", None)])
        await wait.all()
    assert queue.fetched == [["x"]]


async def test_a_call_that_the_queue_forgot_is_our_fault(waits: Waiting, queue: FakeQueue) -> None:
    """It was accepted: the caller is told to submit again, not that it does not exist."""
    with begin(waits, "x") as wait:
        queue.announcements.put_nowait([])
        with pytest.raises(ServiceFault, match="x"):
            await wait.all()


async def test_nothing_waits_for_ever(waits: Waiting, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is still running long after its deadline: its caller is told to ask later."""
    monkeypatch.setattr(waiting, "OVERDUE_S", 0.2)
    queue.records["x"] = Record("x", "running", None)
    async with asyncio.timeout(3):
        with begin(waits, "x", timeout_s=0.1) as wait, pytest.raises(Unavailable, match="overdue"):
            await wait.all()
    assert len(waits) == 0


async def test_a_queue_that_was_away_is_asked_again(waits: Waiting, queue: FakeQueue, wait_until: WaitUntil) -> None:
    """Neither an expected nor an unexpected error ends the service; what waits is looked at again."""
    with begin(waits, "x") as wait:
        for fault in (Unavailable("away"), RuntimeError("bug")):
            queue.fault = fault
            before = len(queue.fetched)
            queue.announcements.put_nowait([])
            await wait_until(lambda before=before: len(queue.fetched) > before)
        queue.fault = None
        queue.finish("x")
        async with asyncio.timeout(5):
            await wait.all()


async def test_results_stay_in_place(waits: Waiting, queue: FakeQueue) -> None:
    """`some` gives (index, Result) as they come, each once; `all` would keep the order."""
    with begin(waits, "a", "b", "c") as wait:
        queue.finish("b")
        queue.announcements.put_nowait([Ended("t", "b", None)])
        assert await wait.some() == [(1, b"{}")]
        queue.finish("a")
        queue.finish("c")
        queue.announcements.put_nowait([Ended("t", each, None) for each in ("a", "c", "b")])
        assert sorted(await wait.some()) == [(0, b"{}"), (2, b"{}")]
    assert len(waits) == 0
