"""What the dialects' clients meet when the service is busy, faulty, or they leave: never a verdict."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

import httpx
import pytest

from sandbox_service.gateway.compat import codejudge, piston, sandboxfusion
from sandbox_service.gateway.compat.languages import Language
from sandbox_service.models import Status
from tests.conftest import WaitUntil
from tests.gateway.conftest import Gateway, ScriptedWorker, StartGateway

HELD = {"code": "hold it", "language": "python", "compile_timeout": 0, "run_timeout": 1}
FREE = {**HELD, "code": "print(1)"}


@pytest.fixture(autouse=True)
def hurried_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that leave after 1 s, and the time limits they send."""
    monkeypatch.setattr(sandboxfusion, "CLIENT_MARGIN_S", 1.0)
    monkeypatch.setattr(sandboxfusion, "ANSWER_S", 0.3)
    monkeypatch.setattr(codejudge, "MARGIN_S", -8.5)  # on top of the 10 s that a program may take
    monkeypatch.setattr(piston, "MARGIN_S", 0.5)


@pytest.fixture
async def full(start_gateway: StartGateway) -> Gateway:
    """A gateway that takes one call, and has it. No worker claims it."""
    gateway = await start_gateway(max_queued=1)
    await gateway.client.post("/v1/calls?wait=0", json={"code": "hold", "id": "first"})
    return gateway


async def test_sandbox_fusion_is_held_and_then_504(full: Gateway) -> None:
    """No 429, no 503: verl tries again for 504 alone."""
    answer = await full.client.post("/run_code", json=FREE)
    assert answer.status_code == 504
    assert isinstance(answer.json()["detail"], str)


async def test_piston_is_held_and_then_504(full: Gateway) -> None:
    """With its own shape of an error; open-r1 tries again for all but 200."""
    asked = {"language": "python", "version": "*", "files": [{"content": "print(1)"}], "run_timeout": 500}
    answer = await full.client.post("/api/v2/execute", json=asked)
    assert answer.status_code == 504
    assert set(answer.json()) == {"message"}


async def test_code_judge_is_held_and_then_queue_timeout(full: Gateway) -> None:
    submissions = [{"type": "python", "solution": "print(1)"}] * 3
    answer = await full.client.post("/run/batch", json={"submissions": submissions})
    assert answer.status_code == 200
    assert [each["reason"] for each in answer.json()["results"]] == ["queue_timeout"] * 3


async def test_code_judge_holds_what_is_compiled_for_the_compiler_too(
    full: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what compiles and runs within its limits would have no verdict, however often it is sent."""
    monkeypatch.setattr(codejudge, "COMPILE_S", 1.0)
    took = {}
    for language in ("python", "cpp"):
        begun = time.monotonic()
        answer = await full.client.post("/judge", json={"type": language, "solution": ""})
        took[language] = time.monotonic() - begun
        assert answer.json()["reason"] == "queue_timeout"
    assert took["cpp"] > took["python"] + 0.5


async def test_a_call_that_never_starts_is_no_verdict(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted, and no worker came for it; of a program that is compiled first as of a notebook."""
    assert (await gateway.client.post("/run_code", json=FREE)).status_code == 504
    assert (await gateway.client.post("/run_code", json={**FREE, "language": "cpp"})).status_code == 504
    monkeypatch.setattr(sandboxfusion, "CLIENT_MARGIN_S", 0.5)
    assert (await gateway.client.post("/run_jupyter", json={"cells": ["1"], "total_timeout": 0.2})).status_code == 504


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxfusion, "CLIENT_MARGIN_S", 30.0)


@pytest.mark.usefixtures("patient")
async def test_a_fault_of_ours_is_tried_again(gateway: Gateway, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """The client sees the verdict of the second run alone."""
    asked = asyncio.create_task(gateway.client.post("/run_code", json=HELD))
    await wait_until(lambda: len(worker.runs) == 1)
    await worker.let_go(worker.runs[0], Status.INFRA_ERROR)
    await wait_until(lambda: len(worker.runs) == 2)
    assert worker.runs[0] != worker.runs[1]
    await worker.let_go(worker.runs[1])
    answer = await asked
    assert answer.status_code == 200
    assert answer.json()["run_result"]["stdout"] == "hold it"


JUDGED = {"type": "python", "solution": "hold it"}
PISTON = {"language": "python", "version": "*", "files": [{"content": "hold it"}]}


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    ("path", "body", "count"),
    [
        ("/run_code", HELD, 1),
        ("/run", JUDGED, 1),
        ("/judge/long-batch", {"submissions": [JUDGED] * 3}, 3),
        ("/api/v2/execute", PISTON, 1),
    ],
)
async def test_a_client_that_leaves_cancels_its_calls(
    gateway: Gateway,
    worker: ScriptedWorker,
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, object],
    count: int,
) -> None:
    """They all abandon the socket at their deadline and send again."""
    monkeypatch.setattr(codejudge, "MARGIN_S", 30.0)
    monkeypatch.setattr(piston, "MARGIN_S", 30.0)
    async with httpx.AsyncClient(base_url=gateway.url) as leaving:
        asked = asyncio.create_task(leaving.post(path, json=body))
        await wait_until(lambda: len(worker.runs) == count)
        assert all(map(worker.holds, worker.runs))
        asked.cancel()
    await wait_until(lambda: not any(map(worker.holds, worker.runs)))


@pytest.mark.usefixtures("patient")
async def test_a_client_that_leaves_takes_its_queued_call_along(gateway: Gateway, wait_until: WaitUntil) -> None:
    """It never starts: there is no worker yet."""

    async def queued() -> int:
        return int((await gateway.client.get("/status")).json()["queue"])

    async def is_empty() -> bool:
        return await queued() == 0

    async with httpx.AsyncClient(base_url=gateway.url) as leaving:
        asked = asyncio.create_task(leaving.post("/run_code", json=HELD))
        await wait_until(queued)
        asked.cancel()
    await wait_until(is_empty)


async def test_where_keys_are_in_force_a_dialect_needs_one(start_gateway: StartGateway, tmp_path: Path) -> None:
    """As a bearer token or as the password of a URL, below any prefix; the refusal has the dialect's shape."""
    keys = tmp_path / "keys"
    keys.write_text(f"me:{hashlib.sha256(b'secret').hexdigest()}\n")
    gateway = await start_gateway(api_keys_file=keys)
    for path in ("/run_code", "/any/where/run_code", "/run", "/x/judge/long-batch"):
        answer = await gateway.client.post(path, json=FREE)
        assert answer.status_code == 401, path
        assert isinstance(answer.json()["detail"], str)
        allowed = await gateway.client.post(path, json={}, auth=("key", "secret"))
        assert allowed.status_code == 422


async def test_a_fault_that_nobody_expected_is_no_verdict(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """504 in the dialect's shape, and not a word of what it was."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("our insides")

    monkeypatch.setattr(Language, "run_call", broken)
    for path, body, key in (
        ("/run_code", FREE, "detail"),
        ("/run", JUDGED, "detail"),
        ("/api/v2/execute", PISTON, "message"),
    ):
        answer = await gateway.client.post(path, json=body)
        assert (answer.status_code, set(answer.json())) == (504, {key})
        assert "insides" not in answer.text


async def test_some_of_a_batch_in_time_and_the_others_queue_timeout(
    gateway: Gateway, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """Each item has its own reason: a late one costs the others nothing, and is what the client sends again. It runs,
    and is cancelled: its client would not wait for it."""
    solutions = ["hold" if number % 4 == 3 else f"{number}" for number in range(32)]
    body = {"submissions": [{"type": "python", "solution": each} for each in solutions]}
    answer = await gateway.client.post("/run/batch", json=body)
    assert answer.status_code == 200
    found = [(each["reason"], each["stdout"]) for each in answer.json()["results"]]
    assert found == [("queue_timeout", "") if each == "hold" else ("", each) for each in solutions]
    await wait_until(lambda: not any(map(worker.holds, worker.runs)))


@pytest.mark.parametrize(
    ("method", "path", "status", "key"),
    [
        ("GET", "/run_code", 405, "detail"),
        ("PUT", "/any/run_jupyter", 405, "detail"),
        ("GET", "/judge/long-batch", 405, "detail"),
        ("POST", "/ping", 405, "detail"),
        ("GET", "/api/v2/execute", 405, "message"),
        ("GET", "/api/v2/packages", 404, "message"),
        ("POST", "/submit", 501, "detail"),
        ("POST", "/prefix/get_prompts", 501, "detail"),
        ("GET", "/list_datasets", 501, "detail"),
        ("GET", "/v1/calls/run", 404, "error"),
    ],
)
async def test_what_is_not_there_has_the_dialects_shape(
    gateway: Gateway, method: str, path: str, status: int, key: str
) -> None:
    answer = await gateway.client.request(method, path, json={})
    assert (answer.status_code, set(answer.json())) == (status, {key})


@pytest.mark.parametrize(
    ("path", "key"), [("/run_code", "detail"), ("/x/run", "detail"), ("/api/v2/execute", "message")]
)
async def test_what_is_refused_at_the_door_has_the_dialects_shape(gateway: Gateway, path: str, key: str) -> None:
    """A header twice, a host that is not ours, a body beyond all bounds, bytes that are no JSON or no text."""
    as_json = {"content-type": "application/json"}
    twice = [*as_json.items(), ("authorization", "a"), ("authorization", "b")]
    answers = [
        await gateway.client.post(path, json=FREE, headers=twice),
        await gateway.client.post(path, json=FREE, headers={"host": "evil.example"}),
        await gateway.client.post(path, json={"code": "x" * (17 << 20)}),
    ]
    for bad in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'"text"', b"null"):
        answers.append(await gateway.client.post(path, content=bad, headers=as_json))
    for answer in answers:
        assert (answer.status_code // 100, set(answer.json())) == (4, {key}), answer.text


@pytest.mark.parametrize("path", ["/", "/faas/sandbox/", "/faas/sandbox/v1/ping", "/v1/ping", "/x/ping", "/x/status"])
async def test_who_asks_whether_it_lives_is_told_so(gateway: Gateway, path: str) -> None:
    """Below any path; what no client asks for is still not there."""
    assert (await gateway.client.get(path)).status_code == 200
    assert (await gateway.client.get("/v1/calls/")).status_code == 404


async def test_the_time_of_a_call_is_its_clients(
    gateway: Gateway, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """verl waits for both limits and 10 s more; a second of it is the answer's way. open-r1 waits for 30 s."""
    monkeypatch.undo()
    asked = {**FREE, "compile_timeout": 7, "run_timeout": 20}
    await gateway.client.post("/run_code", json=asked)
    await gateway.client.post("/run_jupyter", json={"cells": ["1"], "total_timeout": 45})
    await gateway.client.post("/api/v2/execute", json={**PISTON, "files": [{"content": "1"}], "run_timeout": 20_000})
    await gateway.client.post("/run/long-batch", json={"submissions": [{"type": "python", "solution": "1"}]})
    patience = [worker.jobs[each].timeout_s for each in worker.runs]
    for found, expected in zip(patience, (36, 64, 29, 55), strict=True):
        assert expected - 1 < (found or 0) <= expected, patience


async def test_how_much_output_a_judge_shows_is_a_setting(start_gateway: StartGateway, worker: ScriptedWorker) -> None:
    gateway = await start_gateway(judge_output_characters=100)
    answer = await gateway.client.post("/run", json={"type": "python", "solution": "x" * 150})
    assert answer.json()["stdout"] == "x" * 100
