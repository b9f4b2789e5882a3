"""Tenants as a client and an operator meet them: a file, 429 with the reason and the time to come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_service.config import Settings, deploy_dir
from sandbox_service.errors import SetupError
from sandbox_service.gateway.tenants import Tenants
from sandbox_service.queue import Policy, Queue
from tests.gateway.conftest import ScriptedWorker, StartGateway


async def test_a_quota_is_429_with_its_reason_and_the_time_to_come_back(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    """For calls and batches alike; the code tells it from an overload of the service. A corrected file is read
    while the gateway runs, and one that cannot be read changes nothing."""
    file = tmp_path / "tenants.toml"
    file.write_text("[default]\nqueued = 2\n")
    gateway = await start_gateway(tenants_file=file)
    batch = {"calls": [{"code": "1"}, {"code": "2"}, {"code": "3"}]}
    answer = await gateway.client.post("/v1/batches?wait=0", json=batch)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "quota_exceeded"
    assert "at most 2" in answer.json()["error"]["message"]
    assert int(answer.headers["Retry-After"]) >= 1
    for _ in range(2):
        assert (await gateway.client.post("/v1/calls?wait=0", json={"code": "1"})).status_code == 202
    answer = await gateway.client.post("/v1/calls?wait=0", json={"code": "1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_exceeded")

    file.write_text("[default]\nqueud = 3\n")
    with pytest.raises(SetupError, match=r"default\.queud: there is no such field; did you mean queued"):
        gateway.calls.tenants.reload()
    assert (await gateway.client.post("/v1/calls?wait=0", json={"code": "1"})).status_code == 429
    file.write_text("[tenants.default]\nqueued = 3\n")
    gateway.calls.tenants.reload()
    assert (await gateway.client.post("/v1/calls?wait=0", json={"code": "1"})).status_code == 202


async def test_an_overload_of_the_service_is_another_code(start_gateway: StartGateway, worker: ScriptedWorker) -> None:
    """A call that would not be done before its deadline is refused at once, not left to expire."""
    gateway = await start_gateway()
    for n in range(30):
        await gateway.client.post("/v1/calls?wait=0", json={"code": "hold", "id": f"h{n}"})
    queue: Queue = gateway.calls._queue
    await queue._link.client.hset(queue._keys["TENANT"] + "default", mapping={"service": 1e6, "interactive": 30})
    answer = await gateway.client.post("/v1/calls", json={"code": "1", "timeout_s": 3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
    assert "too long for its deadline" in answer.json()["error"]["message"]
    assert int(answer.headers["Retry-After"]) > 20


def test_the_example_is_valid() -> None:
    """Every field of a policy is in it."""
    tenants = Tenants(deploy_dir() / "tenants.example.toml")
    assert tenants.policy("research").model_fields_set == set(Policy.model_fields)
    assert tenants.policy("anybody") == Policy(queued=50_000)


@pytest.mark.parametrize("text", ["weight = 1", "[tenants.a]\nweight = 0", "[tenants.a]\nrate = -1", "[[", "[a]"])
def test_a_file_that_is_wrong_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text(text)
    with pytest.raises(SetupError, match=r"tenants\.toml"):
        Tenants(Settings(tenants_file=file).tenants_file)
