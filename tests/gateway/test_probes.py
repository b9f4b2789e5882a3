"""Health, readiness, metrics, the schema, and routes that are not there."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sandbox_service import metrics
from sandbox_service.errors import Unavailable
from sandbox_service.models import Batch, Call, Checks, Result, Ticket
from tests.gateway.conftest import Gateway, ScriptedWorker, StartWorker


async def test_alive(http: httpx.AsyncClient) -> None:
    """Liveness needs neither worker nor queue."""
    answer = await http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/readyz/", "/healthz/", "/metrics/", "/openapi.json/"])
async def test_a_probe_with_a_slash_too_many_is_no_success(http: httpx.AsyncClient, path: str) -> None:
    """SandboxFusion's front page answers below any path; a balancer must not take it for readiness."""
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_ready_means_a_worker_is_alive(http: httpx.AsyncClient, start_worker: StartWorker) -> None:
    """503 with the reason before, 200 with the images after."""
    answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert not answer.json()["ready"]
    assert "no worker" in answer.json()["reasons"][0]
    await start_worker("default", "science")
    answer = await http.get("/readyz")
    assert (answer.status_code, answer.json()["images"]) == (200, ["default", "science"])


async def test_without_the_queue_nothing_is_accepted(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ready, 503 with Retry-After, and no word of what the queue's own error said."""

    async def away(*args: object, **options: object) -> Any:
        try:
            raise OSError("redis://10.0.0.1 refused")
        except OSError as error:
            raise Unavailable("the queue at redis://10.0.0.1 is away", retry_after_s=1) from error

    for name in ("images", "submit", "fetch", "depth"):
        monkeypatch.setattr(gateway.calls._queue, name, away)
    ready = await gateway.client.get("/readyz")
    assert (ready.status_code, ready.json()["ready"]) == (503, False)
    for answer in (
        await gateway.client.post("/v1/calls", json={"code": "1"}),
        await gateway.client.post("/v1/batches", json={"calls": [{"code": "1"}]}),
        await gateway.client.get("/v1/calls/x"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert "10.0.0.1" not in answer.text
    assert (await gateway.client.get("/metrics")).status_code == 200
    assert (await gateway.client.get("/healthz")).status_code == 200


async def test_metrics_show_depth_and_flight(http: httpx.AsyncClient) -> None:
    """The queue's depth is read when asked for; no id or label of a call is in it."""
    for call_id in ("secret-1", "secret-2"):
        await http.post("/v1/calls?wait=0", json={"id": call_id, "code": "1", "labels": {"run": "secret"}})
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    values = {
        sample.name: sample.value for family in text_string_to_metric_families(answer.text) for sample in family.samples
    }
    assert values["sandbox_queue_depth"] == 2
    assert values["sandbox_calls_in_flight"] == 0
    assert values["sandbox_calls_accepted_total"] >= 2
    assert "process_cpu_seconds_total" in values
    assert "secret" not in answer.text


def test_each_role_exports_only_what_it_measures() -> None:
    """A gateway that told of slots and forks told constant zeros; both tell of their process."""
    gateway, worker = ({family.name for family in role.collect()} for role in (metrics.GATEWAY, metrics.WORKER))
    assert {"sandbox_queue_depth", "process_cpu_seconds"} <= gateway
    assert {"sandbox_slots", "process_cpu_seconds"} <= worker
    assert not {name for name in gateway & worker if name.startswith("sandbox_")}


@pytest.mark.parametrize("path", ["/v1", "/v1/calls/", "/v1/calls/a/b", "/docs", "/v2/calls", "/openapi.yaml"])
async def test_unknown_routes_are_404_in_the_one_shape(http: httpx.AsyncClient, path: str) -> None:
    """Also with a trailing slash: nothing is redirected."""
    answer = await http.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/v1/calls/", "/v1/calls"),
        ("DELETE", "/v1/calls/x/", "/v1/calls/x"),
        ("GET", "/readyz/", "/readyz"),
        ("POST", "/v1/call", "/v1/calls"),
        ("POST", "/calls", "/v1/calls"),
    ],
)
async def test_the_route_that_may_be_meant_is_named(
    http: httpx.AsyncClient, method: str, path: str, meant: str
) -> None:
    """A slash too many is a 404 like any other unknown route, whatever the method."""
    answer = await http.request(method, path, json={"code": "1"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert answer.json()["error"]["message"] == f"no such route; did you mean {meant}?"


async def test_a_dialect_names_the_route_that_may_be_meant(http: httpx.AsyncClient) -> None:
    """In its own shape."""
    answer = await http.post("/run_code/", json={"code": "1"})
    assert (answer.status_code, answer.json()) == (404, {"detail": "no such route; did you mean /run_code?"})


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/calls", "DELETE, POST"),
        ("PUT", "/v1/calls", "DELETE, POST"),
        ("POST", "/v1/calls/x", "DELETE, GET"),
        ("OPTIONS", "/v1/batches/x", "DELETE, GET"),
        ("OPTIONS", "/v1/batches", "POST"),
        ("POST", "/healthz", "GET"),
    ],
)
async def test_wrong_methods_are_405_in_the_one_shape(
    http: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    """With every method of the path in Allow (RFC 9110, 15.5.6), although each is a route of its own."""
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "wrong_method")
    assert answer.headers["allow"] == allowed


async def test_an_error_of_ours_tells_nothing(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """500 `service_fault`; the log has type and place, and neither has a byte of the user."""

    async def broken(*args: object, **options: object) -> Any:
        raise RuntimeError("user said: tell nobody")

    monkeypatch.setattr(gateway.calls, "admit", broken)
    answer = await gateway.client.post("/v1/calls", json={"code": "tell nobody"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "service_fault")
    captured = capsys.readouterr()
    logged = captured.out + captured.err
    assert "RuntimeError" in logged
    assert "test_probes.py" in logged
    assert "tell nobody" not in logged + answer.text
    assert "Traceback" not in logged


async def test_an_error_in_the_queue_reaches_everyone_who_waits_to_be_admitted(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admissions share a round trip; an unexpected error in it leaves nobody hanging."""

    async def broken(*args: object, **options: object) -> Any:
        raise RuntimeError("bug")

    monkeypatch.setattr(gateway.calls._queue, "submit_each", broken)
    assert (await gateway.client.post("/v1/calls", json={"code": "1"})).status_code == 500
    monkeypatch.undo()
    assert (await gateway.client.post("/v1/calls?wait=0", json={"code": "1"})).status_code == 202


@pytest.fixture
async def schema(http: httpx.AsyncClient) -> dict[str, Any]:
    answer = await http.get("/openapi.json")
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


async def test_the_schema_lists_every_route(schema: dict[str, Any]) -> None:
    """Each with a description, and its answers and errors."""
    operations = {
        (method, path): operation for path, methods in schema["paths"].items() for method, operation in methods.items()
    }
    assert set(operations) == {
        ("post", "/v1/calls"),
        ("get", "/v1/calls/{id}"),
        ("delete", "/v1/calls/{id}"),
        ("delete", "/v1/calls"),
        ("post", "/v1/batches"),
        ("get", "/v1/batches/{id}"),
        ("delete", "/v1/batches/{id}"),
        ("post", "/v1/verify"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    }
    for (method, path), operation in operations.items():
        assert operation["summary"], path
        assert operation["description"], path
        if path.startswith("/v1/"):
            assert {"401", "421", "500", "503"} <= set(operation["responses"]), (method, path)
    for path in ("/v1/calls", "/v1/batches"):
        codes = set(operations["post", path]["responses"])
        assert {"200", "202", "408", "409", "413", "415", "422", "429"} <= codes


async def test_every_reference_in_the_schema_resolves(schema: dict[str, Any]) -> None:
    """No dangling $ref."""
    text = json.dumps(schema)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert {"Call", "Batch", "Result", "Ticket", "Error", "BatchResults", "Limits"} <= names
    assert names <= set(schema["components"]["schemas"])


async def test_the_examples_are_valid(schema: dict[str, Any]) -> None:
    """A reader can send them as they are."""
    for path, model in (("/v1/calls", Call), ("/v1/batches", Batch), ("/v1/verify", Checks)):
        body = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for example in body["examples"].values():
            model.model_validate(example["value"])
    answers = schema["paths"]["/v1/calls"]["post"]["responses"]
    Result.model_validate(answers["200"]["content"]["application/json"]["example"])
    Ticket.model_validate(answers["202"]["content"]["application/json"]["example"])


async def test_answers_carry_no_server_name(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """Nor is there a page that would show the service in a browser."""
    assert "server" not in (await http.get("/healthz")).headers
