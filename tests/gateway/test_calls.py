"""One call over HTTP: answers, tickets, looking up, cancelling, deadlines."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.conftest import WaitUntil
from tests.gateway.conftest import Gateway, ScriptedWorker, StartGateway, StartWorker


async def test_a_call_answers_its_result(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """POST /v1/calls answers the Result as the worker wrote it, byte for byte."""
    answer = await http.post("/v1/calls", json={"code": "print(1)", "labels": {"run": "a"}})
    assert answer.status_code == 200
    result = answer.json()
    assert (result["status"], result["stdout"], result["labels"]) == ("ok", "print(1)", {"run": "a"})
    assert answer.content == worker._result(result["id"], "ok")


async def test_an_id_that_the_service_makes_cannot_be_guessed(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """A call without an id gets 128 random bits; two calls never share one."""
    ids = {(await http.post("/v1/calls", json={"code": "1"})).json()["id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(len(call_id) == 32 and int(call_id, 16) >= 0 for call_id in ids)


async def test_the_same_id_and_body_run_once(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """A repeat answers the same Result, also when its JSON is written differently, and runs nothing."""
    first = await http.post("/v1/calls", json={"id": "x", "code": "1", "timeout_s": 60})
    again = await http.post(
        "/v1/calls", content=b'{ "timeout_s": 60.0,"code":"1", "id":"x"}', headers={"Content-Type": "application/json"}
    )
    assert first.content == again.content
    assert worker.runs == ["x"]


async def test_the_same_id_with_another_body_conflicts(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """409 names the field; the first call's Result stays."""
    await http.post("/v1/calls", json={"id": "x", "code": "1"})
    answer = await http.post("/v1/calls", json={"id": "x", "code": "2"})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conflict"
    assert answer.json()["error"]["field"] == "id"
    assert (await http.get("/v1/calls/x")).json()["stdout"] == "1"


async def test_repeats_that_wait_together_get_one_result(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """Two requests with the same id wait for one execution."""
    posts = [asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"})) for _ in range(2)]
    await wait_until(lambda: worker.holds("x"))
    await asyncio.wait(posts, timeout=0.2)
    await worker.let_go("x")
    first, second = await asyncio.gather(*posts)
    assert first.content == second.content
    assert worker.runs == ["x"]


async def test_a_ticket_is_answered_at_once(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """?wait=0: 202 with a Ticket and a Location; the call is looked up there: 202 while it runs, then 200."""
    answer = await http.post("/v1/calls?wait=0", json={"id": "x", "code": "hold"})
    assert answer.status_code == 202
    assert answer.json() == {"id": "x", "state": "queued", "url": "/v1/calls/x"}
    assert answer.headers["location"] == "/v1/calls/x"
    await wait_until(lambda: worker.holds("x"))
    pending = await http.get("/v1/calls/x")
    assert (pending.status_code, pending.json()["state"]) == (202, "running")
    await worker.let_go("x")
    done = await http.get("/v1/calls/x")
    assert (done.status_code, done.json()["status"]) == (200, "ok")


async def test_a_long_poll_answers_when_the_call_ends(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """GET ?wait_s= answers as soon as the Result is there."""
    await http.post("/v1/calls?wait=0", json={"id": "x", "code": "hold"})
    await wait_until(lambda: worker.holds("x"))
    poll = asyncio.create_task(http.get("/v1/calls/x?wait_s=20"))
    await asyncio.wait([poll], timeout=0.2)
    assert not poll.done()
    began = time.monotonic()
    await worker.let_go("x")
    assert (await poll).status_code == 200
    assert time.monotonic() - began < 0.5


async def test_a_long_poll_ends_after_its_time(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """GET ?wait_s=0.3 answers a Ticket after 0.3 s if the call goes on."""
    await http.post("/v1/calls?wait=0", json={"id": "x", "code": "hold"})
    began = time.monotonic()
    assert (await http.get("/v1/calls/x?wait_s=0.3")).status_code == 202
    assert 0.3 <= time.monotonic() - began < 2


async def test_a_long_poll_is_cut_to_the_settings(start_gateway: StartGateway, worker: ScriptedWorker) -> None:
    """wait_s beyond max_wait_s waits for max_wait_s."""
    http = (await start_gateway(max_wait_s=0.2)).client
    await http.post("/v1/calls?wait=0", json={"id": "x", "code": "hold"})
    async with asyncio.timeout(5):
        assert (await http.get("/v1/calls/x?wait_s=1000")).status_code == 202


async def test_another_gateway_knows_the_call(
    start_gateway: StartGateway, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """Any gateway answers for any call, and learns of its end at once."""
    one, two = await start_gateway(), await start_gateway()
    await one.client.post("/v1/calls?wait=0", json={"id": "x", "code": "hold"})
    await wait_until(lambda: worker.holds("x"))
    poll = asyncio.create_task(two.client.get("/v1/calls/x?wait_s=20"))
    await wait_until(lambda: two.calls.in_flight == 1)
    await worker.let_go("x")
    async with asyncio.timeout(3):
        assert (await poll).status_code == 200


@pytest.mark.parametrize("call_id", ["unknown", "a.b", "x" * 65, "%00", "ü"])
async def test_an_unknown_id_is_404(http: httpx.AsyncClient, call_id: str) -> None:
    """So is one that no call can have."""
    for answer in (await http.get(f"/v1/calls/{call_id}"), await http.delete(f"/v1/calls/{call_id}")):
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


async def test_an_expired_result_is_410(
    start_gateway: StartGateway, redis_url: str, prefix: str, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    """After the time to live 410, not 404: the caller learns that it came too late, not that it is mistaken."""
    http = (await start_gateway(result_ttl_s=1)).client
    answer = await http.post("/v1/calls?wait=0", json={"id": "x", "code": "1", "timeout_s": 0.01})
    assert answer.status_code == 202

    async def gone() -> bool:
        answer = await http.get("/v1/calls/x")
        return answer.status_code == 410 and answer.json()["error"]["code"] == "result_gone"

    await wait_until(gone)
    assert (await http.delete("/v1/calls/x")).status_code == 410


async def test_a_queued_call_is_cancelled_at_once(http: httpx.AsyncClient) -> None:
    """DELETE ends what has not started: no worker was ever needed."""
    await http.post("/v1/calls?wait=0", json={"id": "x", "code": "1"})
    answer = await http.delete("/v1/calls/x")
    assert (answer.status_code, answer.json()) == (200, {"id": "x", "state": "done"})
    assert (await http.get("/v1/calls/x")).json()["status"] == "cancelled"


async def test_a_running_call_is_cancelled(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """DELETE tells the worker; whoever waits for the call gets its Result."""
    post = asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"}))
    await wait_until(lambda: worker.holds("x"))
    assert (await http.delete("/v1/calls/x")).json() == {"id": "x", "state": "running"}
    assert (await post).json()["status"] == "cancelled"


async def test_calls_are_cancelled_by_label(http: httpx.AsyncClient) -> None:
    """DELETE ?label=run:a cancels the calls with this label, and tells how many; the value may hold a colon."""
    for call_id, run in (("a1", "a:b"), ("a2", "a:b"), ("b1", "other")):
        await http.post("/v1/calls?wait=0", json={"id": call_id, "code": "1", "labels": {"run": run}})
    answer = await http.request("DELETE", "/v1/calls", params={"label": "run:a:b"})
    assert (answer.status_code, answer.json()) == (200, {"cancelled": 2})
    assert (await http.get("/v1/calls/a2")).json()["status"] == "cancelled"
    assert (await http.get("/v1/calls/b1")).status_code == 202


@pytest.mark.parametrize("query", ["", "?label=run", "?label=:x", "?label=a:b&label=c:d"])
async def test_cancelling_needs_a_label(http: httpx.AsyncClient, query: str) -> None:
    """DELETE /v1/calls without a clear label cancels nothing."""
    answer = await http.delete(f"/v1/calls{query}")
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "label")


async def test_a_call_that_never_started_expires_on_time(http: httpx.AsyncClient) -> None:
    """Its waiting caller hears of it within half a second of the deadline, although no worker is there."""
    began = time.monotonic()
    answer = await http.post("/v1/calls", json={"code": "1", "timeout_s": 1.3})
    assert answer.json()["status"] == "expired"
    assert 1.3 <= time.monotonic() - began < 1.8


async def test_overload_is_refused_before_acceptance(start_gateway: StartGateway) -> None:
    """Beyond max_queued 429 with Retry-After, and nothing of it is known."""
    http = (await start_gateway(max_queued=1)).client
    await http.post("/v1/calls?wait=0", json={"id": "x", "code": "1"})
    answer = await http.post("/v1/calls", json={"id": "y", "code": "1"})
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "overloaded"
    assert answer.json()["error"]["retry_after_s"] > 0
    assert int(answer.headers["retry-after"]) >= 1
    assert (await http.get("/v1/calls/y")).status_code == 404


async def test_limits_are_lowered_to_policy_and_told(start_gateway: StartGateway, worker: ScriptedWorker) -> None:
    """The worker gets every limit filled in: the default, what was asked, or the policy's most, and which were cut."""
    http = (await start_gateway(max_wall_s=5, default_memory_mb=100)).client
    answer = await http.post("/v1/calls", json={"id": "x", "code": "1", "limits": {"wall_s": 50, "cpu_s": 2}})
    assert answer.status_code == 200
    job = worker.jobs["x"]
    assert (job.limits.wall_s, job.limits.cpu_s, job.limits.memory_mb) == (5, 2, 100)
    assert job.lowered == ["wall_s"]


async def test_an_unknown_image_is_refused(http: httpx.AsyncClient, start_worker: StartWorker) -> None:
    """422 names the field and the images there are; one that a worker serves is accepted."""
    await start_worker("default", "science")
    answer = await http.post("/v1/calls", json={"code": "1", "image": "nope"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "image")
    assert "default, science" in answer.json()["error"]["message"]
    assert (await http.post("/v1/calls", json={"code": "1", "image": "science"})).status_code == 200


async def test_before_any_worker_only_the_default_image_is_taken(http: httpx.AsyncClient) -> None:
    """A gateway that starts first accepts what it can know to be right."""
    assert (await http.post("/v1/calls?wait=0", json={"code": "1", "image": "science"})).status_code == 422
    assert (await http.post("/v1/calls?wait=0", json={"code": "1", "image": "default"})).status_code == 202


async def test_many_calls_at_once_are_sent_together(
    gateway: Gateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 calls that arrive together take few round trips, and one that conflicts fails alone."""
    queue = gateway.calls._queue
    sizes: list[int] = []
    submit = queue.submit_each

    async def counted(tenant: str, submissions, **options):  # type: ignore[no-untyped-def]
        sizes.append(len(submissions))
        return await submit(tenant, submissions, **options)

    monkeypatch.setattr(queue, "submit_each", counted)
    posts = [gateway.client.post("/v1/calls", json={"code": str(index)}) for index in range(100)]
    answers = await asyncio.gather(*posts)
    assert [answer.json()["stdout"] for answer in answers] == [str(index) for index in range(100)]
    assert sum(sizes) == 100
    assert len(sizes) < 60
    assert max(sizes) > 1
