"""Under overload: what is refused without being parsed, and what never is."""

from __future__ import annotations

import asyncio
import time

import pytest

from sandbox_service.errors import Overloaded
from sandbox_service.gateway.standing import Standing
from sandbox_service.models import Call
from sandbox_service.queue import NO_LIMITS, Policy, Queue, refusals
from tests.gateway.conftest import ScriptedWorker, StartGateway


def overloaded(holds_s: float = 60.0) -> Overloaded:
    error = Overloaded("full", retry_after_s=1)
    error.holds_s = holds_s
    return error


@pytest.mark.parametrize(
    ("body", "is_like"),
    [
        (b'{"code":"1","timeout_s":8}', True),
        (b'{"code":"1","timeout_s": 7.5 }', True),
        (b'{"timeout_s":8,"code":"1"}', True),
        (b'{"code":"1","timeout_s":8.1}', False),
        (b'{"code":"1"}', False),  # waits for the default, which is longer
        (b'{"code":"1","timeout_s":8,"id":"a"}', False),
        (b'{"code":"1","timeout_s":8,"\\u0069d":"a"}', False),
        (b'{"code":"1","timeout_s":8,"image":"other"}', False),
        (b'{"code":"1","timeout_s":8,"priority":"batch"}', False),
        (b'{"code":"1","timeout_s":1e9}', False),
        (b'{"code":"1","timeout_s":null}', False),
        (b'{"code":"1","timeout_s":1,"timeout_s":100}', False),
        (b'{"code":"1","\\u0074imeout_s":100,"timeout_s":8}', False),
        (b'{"code":"print(\\"id\\", \\"timeout_s\\": 9)","timeout_s":8}', True),
        (b'{"code":"1","labels":{"timeout_s":"1"}}', False),
    ],
)
def test_what_is_like_a_refused_call(body: bytes, is_like: bool) -> None:
    """A call that the queue might take is never refused here."""
    standing = Standing(default_timeout_s=600)
    standing.note("t", NO_LIMITS, Call(code="1", timeout_s=8), 8, overloaded())
    assert (standing.find("t", NO_LIMITS, body) is not None) is is_like


def test_a_refusal_stands_for_its_time_its_tenant_and_its_policy() -> None:
    body = b'{"code":"1"}'
    standing = Standing(default_timeout_s=600)
    standing.note("t", NO_LIMITS, Call(code="1"), 600, overloaded(0.5))
    assert standing.find("other", NO_LIMITS, body) is None
    assert standing.find("t", NO_LIMITS, body) is not None
    time.sleep(0.5)
    assert standing.find("t", NO_LIMITS, body) is None
    standing.note("t", NO_LIMITS, Call(code="1"), 600, overloaded())
    assert standing.find("t", Policy(weight=2), body) is None
    for call in (Call(code="1", priority="batch"), Call(code="1", image="other")):
        standing.note("t", NO_LIMITS, call, 600, overloaded())
        assert standing.find("t", NO_LIMITS, body) is None


def test_what_an_impatient_call_was_refused_is_not_refused_to_a_patient_one() -> None:
    """Its transport left it half a second: that is what the queue was asked for, whatever the call itself says."""
    standing = Standing(default_timeout_s=600)
    standing.note("t", NO_LIMITS, Call(code="1"), 0.5, overloaded())
    assert standing.find("t", NO_LIMITS, b'{"code":"1"}') is None


def test_a_refusal_that_stands_keeps_no_request_in_memory() -> None:
    """What is kept has no traceback, before and after it was raised; what it tells is unchanged."""
    standing = Standing(default_timeout_s=600)
    try:
        raise overloaded()
    except Overloaded as error:
        standing.note("t", NO_LIMITS, Call(code="1"), 600, error)
    for _ in range(2):
        found = standing.find("t", NO_LIMITS, b'{"code":"1"}')
        assert found is not None
        assert (found.__traceback__, found.message, found.retry_after_s, found.holds_s) == (None, "full", 1, 60)
        with pytest.raises(Overloaded):
            raise found


async def test_a_standing_refusal_costs_no_round_trip_and_hides_no_result(
    start_gateway: StartGateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second like call is refused alike, without the queue; one that exists already gets its Result all the same;
    and when there is room again, the next is taken."""
    gateway = await start_gateway()
    done = await gateway.client.post("/v1/calls", json={"code": "1", "id": "known"})
    assert done.status_code == 200
    queue: Queue = gateway.calls._queue
    account = queue._keys["TENANT"] + "default"
    await queue._link.client.hset(account, mapping={"service": 1e6, "interactive": 30})
    asked = []
    submit_each = Queue.submit_each

    async def counted(queue: Queue, tenant: str, *args: object, **kwargs: object) -> object:
        asked.append(tenant)
        return await submit_each(queue, tenant, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Queue, "submit_each", counted)
    monkeypatch.setattr(refusals, "_HOLDS_S", 2.0)
    body = {"code": "1", "timeout_s": 3}
    first, second = [await gateway.client.post("/v1/calls", json=body) for _ in range(2)]
    assert first.status_code == second.status_code == 429
    assert second.content == first.content
    assert second.headers["Retry-After"] == first.headers["Retry-After"]
    assert len(asked) == 1
    again = await gateway.client.post("/v1/calls", json={"code": "1", "id": "known"})
    assert again.content == done.content
    await queue._link.client.hset(account, mapping={"interactive": 0})
    async with asyncio.timeout(5):
        while (await gateway.client.post("/v1/calls", json=body)).status_code != 200:
            await asyncio.sleep(0.02)
