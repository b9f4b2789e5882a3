"""What a worker claims always ends: with a Result, or back in the queue. Queue and worker are real, the pool is not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from sandbox_service import metrics
from sandbox_service.config import Settings
from sandbox_service.models import Job, Limits, Result, Status
from sandbox_service.queue import Execution, Queue, Submission
from sandbox_service.worker import worker as module
from sandbox_service.worker.execution import Executor, Run
from sandbox_service.worker.pool import Pool
from sandbox_service.worker.slots import CannotStart
from sandbox_service.worker.worker import Worker
from tests.conftest import WaitUntil

NAME, LEASE_S = "w1", 0.3


class BrokenPool:
    """A pool in which every program ends in a fault of ours."""

    images: dict[str, Any]

    def __init__(self) -> None:
        self.runs = 0
        self.why: str | None = None

    def choose_profile(self, code: str, image: str) -> Any:
        return SimpleNamespace(name="bare")

    def obstacle(self) -> str | None:
        return self.why

    async def run(self, *args: object) -> NoReturn:
        self.runs += 1
        raise RuntimeError("a bug")


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[Queue]:
    settings = Settings(redis_url=redis_url, redis_prefix=f"test-{uuid.uuid4().hex[:12]}", result_ttl_s=20.0)
    queue = await Queue.connect(settings.model_copy(update={"lease_s": LEASE_S}))
    await queue.join(NAME, {"default": "hash"})
    yield queue
    await queue.leave(NAME)
    await queue.close()


@pytest.fixture
def pool() -> BrokenPool:
    return BrokenPool()


@pytest.fixture
async def worker(queue: Queue, pool: BrokenPool) -> AsyncIterator[Worker]:
    worker = Worker(NAME, queue, cast("Pool", pool), Executor(NAME, cast("Pool", pool), "default"), slots=1)
    tasks = [
        asyncio.create_task(each)
        for each in (worker.claim_calls(), worker.store_results(), worker.recover_calls(LEASE_S))
    ]
    yield worker
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def answer(queue: Queue, payload: bytes) -> Result:
    """Put a call with this payload through the queue."""
    await queue.submit("t", [Submission("a", payload, "digest", "default", "interactive", {}, 30.0, 0.0)], notify="g")
    async with asyncio.timeout(20):
        while True:
            [record] = await queue.fetch("t", ["a"])
            assert record is not None
            if record.result is not None:
                return Result.model_validate_json(record.result)
            await asyncio.sleep(0.02)


def job() -> bytes:
    limits = Limits(wall_s=5, cpu_s=5, memory_mb=64, output_kb=64, processes=4, disk_mb=16)
    return Job(id="a", code="1", limits=limits, labels={"run": "x"}).model_dump_json().encode()


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "payload", [b"", b"\xff\x00", b"null", b"{}", b"[" * 100_000, b'{"id":"a","code":"1","of_the_next_version":1}']
)
async def test_a_call_that_cannot_be_read_ends_as_our_fault(queue: Queue, payload: bytes) -> None:
    """At once, and not to be sent again: it would be as unreadable."""
    result = await answer(queue, payload)
    assert (result.id, result.status, result.retryable) == ("a", Status.INFRA_ERROR, False)
    assert (result.attempts, result.worker) == (1, NAME)
    assert "cannot read the call" in (result.message or "")


@pytest.mark.usefixtures("worker")
async def test_a_bug_in_an_attempt_ends_as_our_fault(queue: Queue) -> None:
    result = await answer(queue, job())
    assert (result.status, result.retryable, result.attempts) == (Status.INFRA_ERROR, True, 2)
    assert result.labels == {"run": "x"}
    assert result.message


@pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncio.CancelledError()])
async def test_what_the_executor_loses_goes_back_to_the_queue(
    queue: Queue, worker: Worker, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt counts, so it ends after the second."""

    async def lose(executor: Executor, run: object) -> NoReturn:
        raise error

    monkeypatch.setattr(Executor, "execute", lose)
    result = await answer(queue, job())
    assert (result.status, result.retryable, result.attempts) == (Status.INFRA_ERROR, True, 2)


async def test_what_cannot_start_here_goes_back_uncounted_and_no_more_is_claimed(
    queue: Queue, pool: BrokenPool, worker: Worker, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call waits until the machine can again, its tries are no attempts, and gateways and metrics see the pause."""
    tries: list[int] = []

    async def execute(executor: Executor, run: Run) -> Result:
        tries.append(run.execution.attempt)
        if len(tries) <= 3:
            pool.why = "no descriptor left"
            raise CannotStart(pool.why)
        return Result(id=run.execution.id, status=Status.OK, attempts=run.execution.attempt, worker=NAME)

    monkeypatch.setattr(Executor, "execute", execute)
    asked = asyncio.create_task(answer(queue, job()))
    for round_ in (1, 2, 3):
        await wait_until(lambda: metrics.PAUSED._value.get() == 1)
        assert len(tries) == round_
        await wait_until(lambda: claims_with(queue, 0))
        assert await queue.depth() == 1
        pool.why = None
        await wait_until(lambda done=round_: len(tries) > done)
    result = await asked
    assert (result.status, result.attempts) == (Status.OK, 1)
    assert tries == [1, 1, 1, 1]
    assert metrics.PAUSED._value.get() == 0
    await wait_until(lambda: claims_with(queue, 1))


async def claims_with(queue: Queue, slots: int) -> bool:
    """Its image stays known meanwhile: a call for it is no mistake of its sender's."""
    return await queue.images() == {"default"} and queue.slots == slots


@pytest.mark.usefixtures("worker")
async def test_a_worker_without_a_lease_does_not_repeat_what_failed(
    queue: Queue, pool: BrokenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call may be another worker's by now: it is started twice altogether, not twice by each."""
    told: list[Execution | None] = []
    retry = Queue.retry

    async def retry_too_late(queue: Queue, worker: str, execution: Execution) -> Execution | None:
        if not told:
            await queue._link.command("DEL", f"{queue._keys['WORKER']}{worker}")
        told.append(await retry(queue, worker, execution))
        return told[-1]

    monkeypatch.setattr(Queue, "retry", retry_too_late)
    result = await answer(queue, job())
    assert (result.status, result.attempts) == (Status.INFRA_ERROR, 2)
    assert (told, pool.runs) == ([None], 2)


async def test_a_drain_waits_shortly_for_a_queue_that_does_not_answer(
    queue: Queue, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt failed and the queue was asked for another when SIGTERM came: leaving takes the call back instead."""
    asked = asyncio.Event()

    async def never(queue: Queue, worker: str, execution: Execution) -> NoReturn:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Queue, "retry", never)
    monkeypatch.setattr(module, "_PARTING_S", 0.3)
    await queue.submit("t", [Submission("a", job(), "digest", "default", "interactive", {}, 30.0, 0.0)], notify="g")
    async with asyncio.timeout(10):
        await asked.wait()
    async with asyncio.timeout(3):
        await worker.drain(0)
