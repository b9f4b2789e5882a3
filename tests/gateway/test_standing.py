"""Under overload: what is refused without being parsed, and what never is."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest

from sandbox_service.errors import Overloaded
from sandbox_service.gateway import server
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.standing import Standing
from sandbox_service.models import Call
from sandbox_service.queue import NO_LIMITS, Policy, Queue, refusals
from tests.gateway.conftest import ScriptedWorker, StartGateway

HEAD = b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d"


def request(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + b"\r\n\r\n" + body


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


def test_a_request_that_repeats_a_refused_one() -> None:
    """It may have another body, of another length. Any other head is parsed, and each one when the refusal is over."""
    standing = Standing(default_timeout_s=600)
    standing.note("t", NO_LIMITS, Call(code="1"), 600, overloaded())

    def repeats(sent: bytes, policy: Policy = NO_LIMITS) -> bool:
        return standing.repeated(sent, lambda tenant: policy) is not None

    assert not repeats(request(b'{"code":"1"}'))
    standing.find("t", NO_LIMITS, b'{"code":"1"}', head=HEAD % 12)
    assert repeats(request(b'{"code":"1"}'))
    assert repeats(request(b'{"code":"print(1)"}'))
    for other in (
        request(b'{"code":"1","id":"a"}'),
        request(b'{"code":"1"}', HEAD + b"\r\nAuthorization: Bearer other"),
        request(b'{"code":"1"}', HEAD + b"\r\nContent-Length: 12"),
        request(b'{"code":"1"}', HEAD.replace(b"calls", b"batches")),
        request(b'{"code":"1"}', HEAD.replace(b"localhost", b"elsewhere")),
        request(b'{"code":"1"}')[:-1],
        request(b'{"code":"1"}') * 2,
        b"\r\n" + request(b'{"code":"1"}'),
        b"",
    ):
        assert not repeats(other), other
    assert not repeats(request(b'{"code":"1"}'), Policy(weight=2))
    standing.note("t", NO_LIMITS, Call(code="1"), 600, overloaded())
    assert not repeats(request(b'{"code":"1"}'))  # the head was checked while another refusal stood


def test_when_nothing_stands_nothing_is_kept() -> None:
    """Heads hold keys: they are gone when the last refusal is over, or when keys are read again."""
    standing = Standing(default_timeout_s=600)
    assert not standing
    for forget in (lambda: time.sleep(0.06), standing.forget):
        standing.note("t", NO_LIMITS, Call(code="1"), 600, overloaded(0.05))
        standing.find("t", NO_LIMITS, b'{"code":"1"}', head=HEAD % 12)
        assert standing
        assert standing._heads
        forget()
        assert not standing
        assert not standing._heads


def test_heads_are_remembered_in_bounds() -> None:
    standing = Standing(default_timeout_s=600)
    standing.note("t", NO_LIMITS, Call(code="1"), 600, overloaded())
    for number in range(5000):
        standing.find("t", NO_LIMITS, b'{"code":"1"}', head=HEAD % 12 + b"\r\nx-number: %d" % number)
    standing.find("t", NO_LIMITS, b'{"code":"1"}', head=HEAD % 12 + b"\r\nx-long: " + b"a" * 4000)
    kept = sum(len(part) for head in standing._heads for part in head)
    assert 0 < kept < 1 << 20
    assert max(len(part) for head in standing._heads for part in head) < 4000


async def test_a_connection_too_many_stays_one(
    start_gateway: StartGateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told so and closed, also with a request that repeats a refused one."""
    monkeypatch.setattr(server, "_most_connections", lambda settings: 1)
    gateway = await start_gateway()
    gateway.calls._standing.note("default", NO_LIMITS, Call(code="1"), 600, overloaded())
    gateway.calls._standing.find("default", NO_LIMITS, b'{"code":"1"}', head=HEAD % 12)
    address = urlsplit(gateway.url)
    _, first = await asyncio.open_connection(address.hostname, address.port)
    reader, second = await asyncio.open_connection(address.hostname, address.port)
    second.write(request(b'{"code":"1"}'))
    async with asyncio.timeout(5):
        answer = await reader.read()  # to the end: the connection is closed
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert b"as many connections as it can hold" in answer
    for writer in (first, second):
        writer.close()


async def test_a_repeated_request_is_answered_as_the_first_one_was(
    start_gateway: StartGateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one connection: the second like request reaches no application, and its answer has the same bytes but for the
    date. One in two pieces and one that is not like it are served as ever."""
    gateway = await start_gateway()
    gateway.calls._standing.note("default", NO_LIMITS, Call(code="1"), 600, overloaded())
    reached = []
    refused_already = Calls.refused_already

    def noted(calls: Calls, tenant: str, body: bytes, head: bytes = b"") -> Overloaded | None:
        reached.append(body)
        return refused_already(calls, tenant, body, head)

    monkeypatch.setattr(Calls, "refused_already", noted)
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)

    async def answered(*pieces: bytes) -> tuple[bytes, dict[str, str], bytes]:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).strip().split(b"\r\n")
            headers = {
                name.decode().lower(): value.decode() for name, _, value in (line.partition(b": ") for line in lines)
            }
            return status, headers, await reader.readexactly(int(headers["content-length"]))

    like, unlike = request(b'{"code":"1"}'), request(b'{"code":"1","id":"a"}')
    answers = [await answered(like) for _ in range(4)]
    assert len(reached) == 1
    assert {answer[0] for answer in answers} == {b"HTTP/1.1 429 Too Many Requests"}
    assert all(answer[1].keys() == answers[0][1].keys() and answer[2] == answers[0][2] for answer in answers)
    assert (await answered(like[:40], like[40:]))[0] == answers[0][0]
    assert len(reached) == 2
    assert (await answered(unlike))[0] == b"HTTP/1.1 200 OK"
    assert (await answered(like))[0] == answers[0][0]
    assert len(reached) == 3
    writer.close()


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
