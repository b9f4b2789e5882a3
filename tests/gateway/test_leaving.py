"""Clients that go away: what they alone waited for is cancelled, nothing else."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from sandbox_service.gateway import waiting
from tests.conftest import WaitUntil
from tests.gateway.conftest import Gateway, ScriptedWorker, StartGateway


async def leave(request: asyncio.Task[httpx.Response]) -> None:
    """Close the connection in the middle of a request."""
    request.cancel()
    await asyncio.wait([request])


@pytest.fixture
def returns_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "RETURN_S", 0.3)


async def status(http: httpx.AsyncClient, call_id: str) -> str:
    answer = await http.get(f"/v1/calls/{call_id}")
    return answer.json()["status"] if answer.status_code == 200 else "pending"


async def test_a_call_that_only_its_client_knew_is_cancelled_at_once(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """Nobody could ever ask for it again."""
    post = asyncio.create_task(http.post("/v1/calls", json={"code": "hold"}))
    await wait_until(lambda: worker.runs)
    [call_id] = worker.runs
    await leave(post)

    async def cancelled() -> bool:
        return await status(http, call_id) == "cancelled"

    await wait_until(cancelled, timeout_s=2)


@pytest.mark.usefixtures("returns_soon")
async def test_a_named_call_is_cancelled_when_nobody_returns(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """After the time in which a client that lost its connection would be back."""
    post = asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"}))
    await wait_until(lambda: worker.holds("x"))
    await leave(post)
    assert await status(http, "x") == "pending"
    await wait_until(lambda: not worker.holds("x"))  # to ask for it again and again would be to have returned
    assert (await http.get("/v1/calls/x?wait_s=5")).json()["status"] == "cancelled"


@pytest.mark.usefixtures("returns_soon")
async def test_a_client_that_returns_in_time_gets_its_result(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """A retry with the same id goes on waiting for the same execution; nothing is cancelled under it."""
    post = asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"}))
    await wait_until(lambda: worker.holds("x"))
    await leave(post)
    again = asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"}))
    await asyncio.wait([again], timeout=0.8)
    await worker.let_go("x")
    assert (await again).json()["status"] == "ok"
    assert worker.runs == ["x"]


@pytest.mark.usefixtures("returns_soon")
async def test_a_call_that_someone_else_waits_for_goes_on(
    gateway: Gateway, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """One of two waiting clients leaves: the other gets the Result."""
    http = gateway.client
    first = asyncio.create_task(http.post("/v1/calls", json={"id": "x", "code": "hold"}))
    await wait_until(lambda: worker.holds("x"))
    second = asyncio.create_task(http.get("/v1/calls/x?wait_s=20"))
    await asyncio.wait([second], timeout=0.2)
    await leave(first)
    await asyncio.wait([second], timeout=0.8)
    await worker.let_go("x")
    assert (await second).json()["status"] == "ok"


@pytest.mark.usefixtures("returns_soon")
async def test_a_ticket_outlives_its_client(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """?wait=0 means to come back later; leaving a long poll cancels nothing either."""
    await http.post("/v1/calls?wait=0", json={"id": "x", "code": "hold"})
    await wait_until(lambda: worker.holds("x"))
    poll = asyncio.create_task(http.get("/v1/calls/x?wait_s=20"))
    await asyncio.wait([poll], timeout=0.2)
    await leave(poll)
    await asyncio.sleep(0.6)  # longer than RETURN_S: there is no event to wait for when nothing happens
    assert await status(http, "x") == "pending"
    assert worker.holds("x")


@pytest.mark.usefixtures("returns_soon")
@pytest.mark.parametrize("again", ["post", "poll", "ticket"])
async def test_a_client_that_returns_to_another_gateway_keeps_its_call(
    start_gateway: StartGateway, worker: ScriptedWorker, wait_until: WaitUntil, again: str
) -> None:
    """A balancer sends the retry elsewhere: the first gateway, which nobody came back to, must not cancel the call
    under it. Once the client is gone there too, the call is cancelled, unless a ticket is out."""
    one, two = await start_gateway(), await start_gateway()
    body = {"id": "x", "code": "hold"}
    post = asyncio.create_task(one.client.post("/v1/calls", json=body))
    await wait_until(lambda: worker.holds("x"))
    await leave(post)
    if again == "ticket":
        assert (await two.client.post("/v1/calls?wait=0", json=body)).status_code == 202
    else:
        url = "/v1/calls" if again == "post" else "/v1/calls/x?wait_s=20"
        request = two.client.post(url, json=body) if again == "post" else two.client.get(url)
        back = asyncio.create_task(request)
        await wait_until(lambda: two.calls.in_flight == 1)
    await wait_until(lambda: one.calls.in_flight == 0)  # it has given the call up
    await asyncio.sleep(0.2)  # ... and whatever that did has been done
    assert worker.holds("x")
    if again == "ticket":
        return
    await leave(back)
    await wait_until(lambda: not worker.holds("x"))
    assert (await two.client.get("/v1/calls/x?wait_s=5")).json()["status"] == "cancelled"


@pytest.mark.usefixtures("returns_soon")
@pytest.mark.parametrize("ticket_first", [True, False])
async def test_a_waiter_that_leaves_does_not_cancel_a_ticket_holders_call(
    gateway: Gateway, worker: ScriptedWorker, wait_until: WaitUntil, ticket_first: bool
) -> None:
    """One client took a ticket for the id, another one waited for it and went away: the call goes on."""
    http, body = gateway.client, {"id": "x", "code": "hold"}
    if ticket_first:
        await http.post("/v1/calls?wait=0", json=body)
    waiter = asyncio.create_task(http.post("/v1/calls", json=body))
    await wait_until(lambda: worker.holds("x") and gateway.calls.in_flight == 1)
    if not ticket_first:
        await http.post("/v1/calls?wait=0", json=body)
    await leave(waiter)
    await wait_until(lambda: gateway.calls.in_flight == 0)
    await asyncio.sleep(0.2)
    assert await status(http, "x") == "pending"
    assert worker.holds("x")


async def test_leaving_cancels_nothing_when_it_is_switched_off(
    start_gateway: StartGateway, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """cancel_on_disconnect=False."""
    gateway = await start_gateway(cancel_on_disconnect=False)
    post = asyncio.create_task(gateway.client.post("/v1/calls", json={"code": "hold"}))
    await wait_until(lambda: worker.runs)
    await leave(post)
    await wait_until(lambda: gateway.calls.in_flight == 0)
    assert await status(gateway.client, worker.runs[0]) == "pending"


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_a_batch_that_is_left_is_cancelled(
    gateway: Gateway, worker: ScriptedWorker, wait_until: WaitUntil, accept: str
) -> None:
    """What was not done of it, in either form; nothing is left waiting in the gateway."""
    http = gateway.client
    calls = [{"code": "1"}, {"code": "hold"}, {"code": "hold"}]
    post = asyncio.create_task(http.post("/v1/batches", json={"calls": calls}, headers={"Accept": accept}))
    await wait_until(lambda: len(worker.runs) == 3)
    batch_id = worker.runs[0].partition(".")[0]
    await leave(post)

    async def ended() -> bool:
        return (await http.get(f"/v1/batches/{batch_id}")).status_code == 200

    await wait_until(ended)
    results = (await http.get(f"/v1/batches/{batch_id}")).json()["results"]
    assert [result["status"] for result in results] == ["ok", "cancelled", "cancelled"]
    assert gateway.calls.in_flight == 0
