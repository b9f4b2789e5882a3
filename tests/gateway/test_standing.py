"""Under overload: what is refused without being parsed, and what never is."""

from __future__ import annotations

import asyncio
import gc
import re
import time
import weakref
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.types import Scope

from sandbox_service.errors import Overloaded
from sandbox_service.gateway import standing as standing_module
from sandbox_service.gateway.standing import Standing
from sandbox_service.gateway.tenants import Tenants
from sandbox_service.models import Call
from sandbox_service.queue import Queue, refusals
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
    standing = Standing(600, Tenants(None))
    standing.note("t", Call(code="1", timeout_s=8), 8, overloaded())
    assert (standing.find("t", body) is not None) is is_like


def test_a_refusal_stands_for_its_time_and_its_tenant() -> None:
    """After its time one call asks anew, and the others are refused for as long again, unless that one is answered."""
    body = b'{"code":"1"}'
    standing = Standing(600, Tenants(None))
    standing.note("t", Call(code="1"), 600, overloaded(0.3))
    assert standing.find("other", body) is None
    assert standing.find("t", body) is not None
    time.sleep(0.3)
    assert standing.find("t", body) is None
    assert standing.find("t", body) is not None
    time.sleep(0.3)
    assert standing.find("t", body) is None
    assert standing.find("t", body) is None
    for call in (Call(code="1", priority="batch"), Call(code="1", image="other")):
        standing.note("t", call, 600, overloaded())
        assert standing.find("t", body) is None


def test_a_refusal_ends_with_its_policy(tmp_path: Path) -> None:
    """Who got new limits from the operator is asked for anew."""
    file = tmp_path / "tenants.toml"
    file.write_text("[tenants.t]\nweight = 1\n")
    tenants = Tenants(file)
    standing = Standing(600, tenants)
    standing.note("t", Call(code="1"), 600, overloaded())
    assert standing.find("t", b'{"code":"1"}') is not None
    tenants.reload()
    assert standing.find("t", b'{"code":"1"}') is None


def test_what_an_impatient_call_was_refused_is_not_refused_to_a_patient_one() -> None:
    """Its transport left it half a second: that is what the queue was asked for, whatever the call itself says."""
    standing = Standing(600, Tenants(None))
    standing.note("t", Call(code="1"), 0.5, overloaded())
    assert standing.find("t", b'{"code":"1"}') is None


def scope_of(head: bytes) -> Scope:
    return {"type": "http", "head": head}


def test_a_known_head_is_refused_unread() -> None:
    """And only whole requests with a body of the same length, of a like call, while a refusal stands."""
    standing = Standing(600, Tenants(None))
    head, body = b"POST /v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13", b'{"code":"11"}'
    request = head + b"\r\n\r\n" + body
    standing.note("t", Call(code="1"), 600, overloaded(0.2))
    assert standing.find_unread(request) is None
    standing.learn(scope_of(head), body, "t")
    answer = standing.find_unread(request)
    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    for other in (request[:-1], request + b" ", request.replace(b"localhost", b"elsewhere"), head + b"\r\n\r\n", head):
        assert standing.find_unread(other) is None
    assert standing.find_unread(request.replace(b'"code":"11"', b'"id":"code"')) is None
    time.sleep(0.4)
    assert standing.find_unread(request) is None
    standing.note("other", Call(code="1"), 600, overloaded())
    assert standing.find_unread(request) is None
    standing.note("t", Call(code="1"), 600, overloaded())
    assert standing.find_unread(request) is not None


def test_a_withdrawn_key_is_not_answered_unread() -> None:
    """Heads are forgotten when keys are read again; and of a head, which may hold a key, a digest alone is kept."""
    standing = Standing(600, Tenants(None))
    standing.note("t", Call(code="1"), 600, overloaded())
    standing.learn(scope_of(b"Authorization: Bearer secret"), b"{}", "t")
    assert standing.find_unread(b"Authorization: Bearer secret\r\n\r\n{}") is not None
    assert "secret" not in repr(vars(standing))
    standing.forget_heads()
    assert standing.find_unread(b"Authorization: Bearer secret\r\n\r\n{}") is None


def test_heads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever clients send, few of them are remembered, and no large ones."""
    monkeypatch.setattr(standing_module, "_MOST_HEADS", 8)
    standing = Standing(600, Tenants(None))
    for number in range(100):
        standing.learn(scope_of(b"%d" % number), b"{}", "t")
        assert 1 <= len(standing._heads) <= 8
    standing.forget_heads()
    standing.learn(scope_of(b"x" * 4097), b"{}", "t")
    standing.learn({"type": "http"}, b"{}", "t")
    assert not standing._heads


def test_a_refusal_that_stands_keeps_no_request_in_memory() -> None:
    """What is kept is the answer, not the error, whose traceback holds the request."""
    standing = Standing(600, Tenants(None))
    try:
        raise overloaded()
    except Overloaded as error:
        standing.note("t", Call(code="1"), 600, error)
        held = weakref.ref(error)
    gc.collect()
    assert held() is None
    found = standing.find("t", b'{"code":"1"}')
    assert found is not None
    assert found.response.status_code == 429


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


async def test_what_is_refused_unread_is_answered_alike_and_the_connection_goes_on(
    start_gateway: StartGateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by the queue, by its body, by its bytes: three times the same answer; then a request of another kind."""
    monkeypatch.setattr(refusals, "_HOLDS_S", 60.0)
    gateway = await start_gateway()
    queue: Queue = gateway.calls._queue
    await queue._link.client.hset(queue._keys["TENANT"] + "default", mapping={"service": 1e6, "interactive": 600})
    body = b'{"code":"1","timeout_s":3}'
    headers = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 26"
    post = b"POST /v1/calls HTTP/1.1\r\n" + headers + b"\r\n\r\n" + body
    requests = [post, post, post, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", post + post]
    unread = []
    find_unread = gateway.calls.standing.find_unread

    def watched(request: bytes) -> bytes | None:
        unread.append(find_unread(request) is not None)
        return find_unread(request)

    monkeypatch.setattr(gateway.calls.standing, "find_unread", watched)
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    answers = []
    for request in requests:
        writer.write(request)
        for _ in range(request.count(b"HTTP/1.1")):
            async with asyncio.timeout(5):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].split()[0])
                answers.append((re.sub(rb"date: [^\r]*", b"", head).split(b"\r\n"), await reader.readexactly(length)))
    writer.close()
    assert unread == [False, False, True, False, False]
    assert answers[0][0][0] == b"http/1.1 429 too many requests"
    assert [(sorted(head), told) for head, told in (answers[n] for n in (1, 2, 4, 5))] == 4 * [
        (sorted(answers[0][0]), answers[0][1])
    ]
    assert answers[3][0][0] == b"http/1.1 200 ok"
