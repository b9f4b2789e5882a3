"""What the dialects' clients meet when the service is busy, faulty, or they leave: never a verdict."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import httpx
import pytest

from sandbox_service.gateway.compat import codejudge, piston, sandboxfusion
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
    monkeypatch.setattr(codejudge, "SHORT_S", 1.5)
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


async def test_a_call_that_never_starts_is_no_verdict(gateway: Gateway) -> None:
    """Accepted, and no worker came for it."""
    assert (await gateway.client.post("/run_code", json=FREE)).status_code == 504


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


@pytest.mark.usefixtures("patient")
async def test_a_client_that_leaves_cancels_its_call(
    gateway: Gateway, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """They all abandon the socket at their deadline and send again."""
    async with httpx.AsyncClient(base_url=gateway.url) as leaving:
        asked = asyncio.create_task(leaving.post("/run_code", json=HELD))
        await wait_until(lambda: len(worker.runs) == 1)
        assert worker.holds(worker.runs[0])
        asked.cancel()
    await wait_until(lambda: not worker.holds(worker.runs[0]))


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
