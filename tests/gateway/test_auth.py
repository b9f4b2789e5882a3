"""Keys, tenants and the Host header."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import httpx
import pytest

from sandbox_service.config import Settings
from sandbox_service.errors import SetupError
from sandbox_service.gateway.auth import Gatekeeper, read_keys
from tests.gateway.conftest import ScriptedWorker, StartGateway

SECURITY = (Path(__file__).parents[2] / "SECURITY.md").read_text()


def line(tenant: str, key: str) -> str:
    return f"{tenant}:{hashlib.sha256(key.encode()).hexdigest()}\n"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"# who may call\n{line('alice', 'key-a')}\n{line('bob', 'key-b').strip()} # rotated soon\n")
    return file


@pytest.fixture
async def http(start_gateway: StartGateway, keys: Path) -> httpx.AsyncClient:
    return (await start_gateway(api_keys_file=keys)).client


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("nope"), {"Authorization": "Bearer"}, {"Authorization": "Basic key-a"}, {"Authorization": "key-a"}],
)
async def test_without_a_known_key_nothing_is_served(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    """401 for every route below /v1, known or not; the body tells nothing of what is there."""
    for path in ("/v1/calls/x", "/v1/nothing"):
        answer = await http.get(path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert (await http.post("/v1/calls?wait=0", json={"code": "1"}, headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "told"), [({}, "this service asks for an API key"), (bearer("nope"), "this API key is not known here")]
)
async def test_who_sent_no_key_is_told_how(http: httpx.AsyncClient, headers: dict[str, str], told: str) -> None:
    """And who sent a wrong one, that it is wrong."""
    answer = await http.post("/v1/calls", json={"code": "1"}, headers=headers)
    assert answer.json()["error"]["message"].startswith(told)


async def test_a_key_in_the_query_is_no_key(http: httpx.AsyncClient) -> None:
    """Queries end up in logs; only the header counts."""
    assert (await http.get("/v1/calls/x?key=key-a")).status_code == 401


async def test_probes_need_no_key(http: httpx.AsyncClient) -> None:
    """Orchestrators and Prometheus have none."""
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/metrics")).status_code == 200


async def test_what_answers_without_a_key_is_what_the_document_names(start_gateway: StartGateway, keys: Path) -> None:
    """Of all routes there are; those that answer 501 are not there."""
    gateway = await start_gateway(api_keys_file=keys)
    open_to_all = set()
    for route in gateway.server.config.app.routes:  # type: ignore[union-attr]
        for method in route.methods:
            path = route.path.replace("{prefix:path}", "below").replace("{id}", "x")
            answer = await gateway.client.request(method, path, json={} if method == "POST" else None)
            if answer.status_code not in (401, 501):
                open_to_all.add(route.path.removeprefix("/{prefix:path}"))
    edge = next(line for line in SECURITY.splitlines() if line.startswith("| The edge |"))
    named = set(re.findall(r"`(/[\w./]*)`", edge.partition("without a key:")[2].partition(";")[0]))
    assert open_to_all == named


async def test_tenants_do_not_see_each_other(http: httpx.AsyncClient, worker: ScriptedWorker) -> None:
    """Another tenant's ids are unknown ids: same answer, and nothing of theirs can be cancelled or clashed with."""
    batch = {
        "id": "b",
        "calls": [{"id": "x", "code": "1", "labels": {"run": "r"}}, {"code": "hold", "labels": {"run": "r"}}],
    }
    assert (await http.post("/v1/batches?wait=0", json=batch, headers=bearer("key-a"))).status_code == 202
    for method, path in (
        ("GET", "/v1/calls/x"),
        ("DELETE", "/v1/calls/x"),
        ("GET", "/v1/batches/b"),
        ("DELETE", "/v1/batches/b"),
    ):
        answer = await http.request(method, path, headers=bearer("key-b"))
        unknown = await http.request(method, path[:-1] + "unknown", headers=bearer("key-b"))
        assert (answer.status_code, answer.content) == (404, unknown.content)
    cancelled = await http.delete("/v1/calls?label=run:r", headers=bearer("key-b"))
    assert cancelled.json() == {"cancelled": 0}
    other = await http.post("/v1/calls", json={"id": "x", "code": "other"}, headers=bearer("key-b"))
    assert other.json()["stdout"] == "other"
    mine = await http.get("/v1/calls/x?wait_s=5", headers=bearer("key-a"))
    assert mine.json()["stdout"] == "1"


async def test_keys_are_read_again(start_gateway: StartGateway, keys: Path) -> None:
    """A reload takes the new keys; a broken file keeps the old ones in force."""
    gateway = await start_gateway(api_keys_file=keys)
    gatekeeper = gateway.server.config.app.state.gatekeeper  # type: ignore[union-attr]
    keys.write_text(line("alice", "key-c"))
    gatekeeper.reload()
    assert (await gateway.client.get("/v1/calls/x", headers=bearer("key-a"))).status_code == 401
    assert (await gateway.client.get("/v1/calls/x", headers=bearer("key-c"))).status_code == 404
    keys.write_text("nonsense\n")
    with pytest.raises(SetupError, match="line 1"):
        gatekeeper.reload()
    assert (await gateway.client.get("/v1/calls/x", headers=bearer("key-c"))).status_code == 404


@pytest.mark.parametrize("text", ["", "# nothing\n", "alice\n", "alice:123\n", "a b:" + "0" * 64, "alice:" + "g" * 64])
def test_a_key_file_that_cannot_be_right_stops_the_start(tmp_path: Path, text: str) -> None:
    """Also one without any key."""
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(SetupError, match="sha256-of-key"):
        Gatekeeper(Settings(api_keys_file=file))


def test_a_digest_may_be_pasted_as_it_was_printed(tmp_path: Path) -> None:
    """`sha256sum` names its input behind the digest: `-`."""
    file = tmp_path / "keys"
    file.write_text(line("alice", "key-a").strip() + "  -\n")
    assert read_keys(file) == [(hashlib.sha256(b"key-a").digest(), "alice")]


def test_a_missing_key_file_stops_the_start(tmp_path: Path) -> None:
    """It says which file."""
    with pytest.raises(SetupError, match="absent"):
        Gatekeeper(Settings(api_keys_file=tmp_path / "absent"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_no_other_address_without_keys(host: str, keys: Path) -> None:
    """Fail closed: the error says what to do. With keys it may."""
    with pytest.raises(SetupError, match="SANDBOX_API_KEYS_FILE"):
        Gatekeeper(Settings(host=host))
    Gatekeeper(Settings(host=host, api_keys_file=keys))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_keys(host: str) -> None:
    """A laptop works without any set-up."""
    Gatekeeper(Settings(host=host))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", ""])
async def test_a_rebound_name_is_refused(start_gateway: StartGateway, host: str) -> None:
    """A web page whose name resolves to loopback cannot use a keyless gateway."""
    http = (await start_gateway()).client
    for path in ("/v1/calls?wait=0", "/v1/batches"):
        answer = await http.post(path, json={"code": "1"}, headers={"Host": host})
        assert (answer.status_code, answer.json()["error"]["code"]) == (421, "wrong_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000", "[::1]"])
async def test_names_of_loopback_are_served(start_gateway: StartGateway, host: str) -> None:
    """With any port: tunnels change it."""
    http = (await start_gateway()).client
    assert (await http.get("/healthz", headers={"Host": host})).status_code == 200


async def test_with_keys_any_host_is_served(http: httpx.AsyncClient) -> None:
    """A page does not know the key, so its name need not be checked."""
    assert (await http.get("/healthz", headers={"Host": "sandbox.example"})).status_code == 200
