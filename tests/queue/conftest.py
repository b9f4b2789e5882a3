"""Queues on the shared server, each test under a prefix of its own, and short words for what tests do with them."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from sandbox_service.config import Settings
from sandbox_service.models import Result
from sandbox_service.queue import Queue, Record, Submission

LEASE_S = 0.3
MakeQueue = Callable[..., Awaitable[Queue]]


@pytest.fixture
async def make_queue(redis_url: str) -> AsyncIterator[MakeQueue]:
    """Connects one more Queue to this test's keys, as another process would."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"
    queues: list[Queue] = []

    async def make(url: str = redis_url, **settings: Any) -> Queue:
        settings = {"redis_prefix": prefix, "result_ttl_s": 20.0, "max_queued": 5000, "lease_s": LEASE_S} | settings
        queue = await Queue.connect(Settings(redis_url=url, **settings))
        queues.append(queue)
        return queue

    yield make
    for queue in queues:
        await queue.close()


@pytest.fixture
async def queue(make_queue: MakeQueue) -> Queue:
    """A gateway's queue that worker `w1` has joined as well."""
    queue = await make_queue()
    await queue.join("w1", {"default": "hash"})
    return queue


def submission(call_id: str, **changes: Any) -> Submission:
    fields: dict[str, Any] = {
        "payload": f'{{"code":"{call_id}"}}'.encode(),
        "digest": f"digest of {call_id}",
        "image": "default",
        "priority": "interactive",
        "labels": {},
        "timeout_s": 30.0,
        "age_s": 0.25,
    }
    return Submission(id=call_id, **(fields | changes))


def result_of(record: Record | None) -> Result:
    """The Result of a call that is done; validates that it is a complete one."""
    assert record is not None
    assert record.state == "done"
    assert record.result is not None
    return Result.model_validate(json.loads(record.result))


async def fetch_one(queue: Queue, call_id: str, tenant: str = "t") -> Record | None:
    return (await queue.fetch(tenant, [call_id]))[0]
