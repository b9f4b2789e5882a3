"""Batches over HTTP: order, streams, tickets, ids, cancelling."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.conftest import WaitUntil
from tests.gateway.conftest import Gateway, ScriptedWorker, StartGateway

NDJSON = {"Accept": "application/x-ndjson"}


async def frames(answer: httpx.Response) -> AsyncIterator[dict]:  # type: ignore[type-arg]
    async for line in answer.aiter_lines():
        yield json.loads(line)


async def test_a_batch_answers_its_results_in_order(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """POST /v1/batches answers every Result, in the order of the calls."""
    calls = [{"code": str(index)} for index in range(64)]
    answer = await http.post("/v1/batches", json={"id": "b", "calls": calls})
    assert answer.status_code == 200
    assert answer.json()["id"] == "b"
    assert [result["stdout"] for result in answer.json()["results"]] == [str(index) for index in range(64)]


async def test_calls_of_a_batch_are_named(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """A call keeps its id; one without gets <batch id>.<index>, and can be looked up by it."""
    await http.post("/v1/batches", json={"id": "b", "calls": [{"id": "mine", "code": "1"}, {"code": "2"}]})
    assert (await http.get("/v1/calls/mine")).json()["stdout"] == "1"
    assert (await http.get("/v1/calls/b.1")).json()["stdout"] == "2"


async def test_a_batch_without_id_gets_one(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """It is random, and its calls are named after it."""
    answer = (await http.post("/v1/batches", json={"calls": [{"code": "1"}]})).json()
    assert len(answer["id"]) == 32
    assert answer["results"][0]["id"] == f"{answer['id']}.0"


async def test_the_same_batch_again_runs_nothing(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """The same id and calls answer the same Results."""
    body = {"id": "b", "calls": [{"code": "1"}, {"id": "x", "code": "2"}]}
    first = await http.post("/v1/batches", json=body)
    assert (await http.post("/v1/batches", json=body)).content == first.content
    assert sorted(worker.runs) == ["b.0", "x"]


@pytest.mark.parametrize(
    "calls", [[{"code": "1"}], [{"code": "1"}, {"code": "3"}], [{"code": "1"}, {"code": "2"}, {"code": "3"}]]
)
async def test_the_same_batch_id_with_other_calls_conflicts(
    http: httpx.AsyncClient, worker: ScriptedWorker, calls: list[dict[str, str]]
) -> None:
    """Fewer, others or more: 409, and nothing new runs."""
    await http.post("/v1/batches", json={"id": "b", "calls": [{"code": "1"}, {"code": "2"}]})
    answer = await http.post("/v1/batches", json={"id": "b", "calls": calls})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert sorted(worker.runs) == ["b.0", "b.1"]


async def test_an_id_twice_in_one_batch_is_refused(http: httpx.AsyncClient) -> None:
    """422 names the second place."""
    calls = [{"id": "x", "code": "1"}, {"code": "2"}, {"id": "x", "code": "1"}]
    answer = await http.post("/v1/batches", json={"calls": calls})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "calls.2.id")


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("application/x-ndjson", "application/x-ndjson"),
        ("Application/X-NDJSON; q=0.5", "application/x-ndjson"),
        ("application/x-ndjson, application/json", "application/x-ndjson"),
        ("application/x-ndjson, */*;q=0.1", "application/x-ndjson"),
        ("application/json, application/x-ndjson;q=0.5", "application/json"),
        ("application/x-ndjson;q=0.2, */*;q=0.8", "application/json"),
        ("application/x-ndjson;q=0", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
async def test_the_answer_is_in_the_form_that_is_preferred(
    http: httpx.AsyncClient, worker: ScriptedWorker, accept: str, media: str
) -> None:
    """Weights count; a stream is for those who name it."""
    answer = await http.post("/v1/batches", json={"calls": [{"code": "1"}]}, headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media)


async def test_one_slow_call_does_not_hold_back_a_stream(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """Of 64 calls 63 arrive while one still runs; then that one, then the terminal frame."""
    calls = [{"code": "hold" if index == 7 else str(index)} for index in range(64)]
    async with http.stream("POST", "/v1/batches", json={"id": "b", "calls": calls}, headers=NDJSON) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert answer.headers["location"] == "/v1/batches/b"
        lines = frames(answer)
        async with asyncio.timeout(5):
            early = [await anext(lines) for _ in range(63)]
        assert {frame["index"] for frame in early} == set(range(64)) - {7}
        assert all(frame["result"]["stdout"] == str(frame["index"]) for frame in early)
        await worker.let_go("b.7")
        assert (await anext(lines))["index"] == 7
        assert [frame async for frame in lines] == [{"done": True, "id": "b", "count": 64}]


async def test_the_head_of_a_stream_comes_at_once(http: httpx.AsyncClient) -> None:
    """Status and headers do not wait for the first Result: no worker is there at all."""
    async with asyncio.timeout(3):
        async with http.stream("POST", "/v1/batches", json={"calls": [{"code": "1"}]}, headers=NDJSON) as answer:
            assert answer.status_code == 200


async def test_a_batch_ticket_and_its_poll(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """?wait=0: a Ticket; GET answers 202 until all is done, then the Results."""
    calls = [{"code": "1"}, {"code": "hold"}]
    answer = await http.post("/v1/batches?wait=0", json={"id": "b", "calls": calls})
    assert answer.status_code == 202
    assert answer.json() == {"id": "b", "state": "queued", "url": "/v1/batches/b"}
    assert answer.headers["location"] == "/v1/batches/b"
    await wait_until(lambda: worker.holds("b.1"))
    pending = await http.get("/v1/batches/b")
    assert (pending.status_code, pending.json()["state"]) == (202, "running")
    poll = asyncio.create_task(http.get("/v1/batches/b?wait_s=20"))
    await asyncio.wait([poll], timeout=0.1)
    await worker.let_go("b.1")
    done = await poll
    assert (done.status_code, len(done.json()["results"])) == (200, 2)


async def test_a_batch_is_looked_up_as_a_stream(
    http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """GET as ndjson gives what is done, then a terminal frame that says whether that was all."""
    await http.post("/v1/batches?wait=0", json={"id": "b", "calls": [{"code": "1"}, {"code": "hold"}]})
    await wait_until(lambda: worker.holds("b.1"))

    async def look(wait_s: float) -> list[dict]:  # type: ignore[type-arg]
        async with http.stream("GET", f"/v1/batches/b?wait_s={wait_s}", headers=NDJSON) as answer:
            return [frame async for frame in frames(answer)]

    async def first_is_done() -> bool:
        return len(await look(0)) == 2

    await wait_until(first_is_done)
    result, end = await look(0.2)
    assert (result["index"], end) == (0, {"done": False, "id": "b", "count": 2})
    await worker.let_go("b.1")
    assert (await look(5))[-1] == {"done": True, "id": "b", "count": 2}


async def test_a_batch_is_cancelled(http: httpx.AsyncClient, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """DELETE cancels what is not done; done calls keep their Results."""
    await http.post("/v1/batches?wait=0", json={"id": "b", "calls": [{"code": "1"}, {"code": "hold"}]})
    await wait_until(lambda: worker.holds("b.1"))
    answer = await http.delete("/v1/batches/b")
    assert (answer.status_code, answer.json()["id"]) == (200, "b")
    results = (await http.get("/v1/batches/b?wait_s=5")).json()["results"]
    assert [result["status"] for result in results] == ["ok", "cancelled"]
    assert (await http.delete("/v1/batches/b")).json() == {"id": "b", "state": "done"}


async def test_an_unknown_batch_is_404(http: httpx.AsyncClient) -> None:
    """For looking up and for cancelling, in either form."""
    for answer in (
        await http.get("/v1/batches/nope"),
        await http.get("/v1/batches/nope", headers=NDJSON),
        await http.delete("/v1/batches/nope"),
        await http.get("/v1/batches/" + "x" * 49),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_batch_whose_results_expired_is_410(start_gateway: StartGateway, wait_until: WaitUntil) -> None:
    """The batch is known for longer than its Results."""
    http = (await start_gateway(result_ttl_s=0.2)).client
    await http.post("/v1/batches?wait=0", json={"id": "b", "calls": [{"code": "1", "timeout_s": 0.01}]})

    async def gone() -> bool:
        return (await http.get("/v1/batches/b")).status_code == 410

    await wait_until(gone)


async def test_a_batch_is_accepted_as_a_whole_or_not_at_all(start_gateway: StartGateway) -> None:
    """One call too many for the queue: 429, none is known. One that is invalid: 422 with its place, none is known."""
    http = (await start_gateway(max_queued=2)).client
    answer = await http.post("/v1/batches", json={"id": "b", "calls": [{"code": "1"}] * 3})
    assert answer.status_code == 429
    answer = await http.post("/v1/batches", json={"id": "b", "calls": [{"code": "1"}, {"code": 2}]})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "calls.1.code")
    assert (await http.get("/v1/calls/b.0")).status_code == 404


async def test_an_unknown_image_in_a_batch_names_its_call(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """The field says which call."""
    answer = await http.post("/v1/batches", json={"calls": [{"code": "1"}, {"code": "1", "image": "nope"}]})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "calls.1.image")


@pytest.mark.parametrize("count", [0, 1025])
async def test_the_size_of_a_batch_is_bounded(http: httpx.AsyncClient, count: int) -> None:
    """1 to 1,024 calls."""
    answer = await http.post("/v1/batches", json={"calls": [{"code": "1"}] * count})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "calls")


async def test_a_full_batch(gateway: Gateway, worker: ScriptedWorker) -> None:
    """1,024 calls in one request all come back, and nothing is left waiting."""
    calls = [{"code": str(index)} for index in range(1024)]
    began = time.monotonic()
    results = (await gateway.client.post("/v1/batches", json={"calls": calls})).json()["results"]
    assert [result["stdout"] for result in results] == [str(index) for index in range(1024)]
    assert time.monotonic() - began < 20
    assert gateway.calls.in_flight == 0


async def test_each_call_of_a_stream_has_its_own_deadline(http: httpx.AsyncClient) -> None:
    """What cannot start in time is told as `expired` while the rest still waits."""
    calls = [{"code": "1", "timeout_s": 600}, {"code": "2", "timeout_s": 0.3}]
    async with http.stream("POST", "/v1/batches", json={"id": "b", "calls": calls}, headers=NDJSON) as answer:
        lines = frames(answer)
        async with asyncio.timeout(2):
            frame = await anext(lines)
        assert (frame["index"], frame["result"]["status"]) == (1, "expired")
        await http.delete("/v1/calls/b.0")
        assert (await anext(lines))["result"]["status"] == "cancelled"
        assert (await anext(lines))["done"] is True
