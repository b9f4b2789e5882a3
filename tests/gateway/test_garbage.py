"""A refused request leaves no cycle behind: what it held is gone before the garbage collector looks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_service.errors import SandboxError
from tests.gateway.conftest import StartGateway
from tests.gateway.test_auth import line

BODIES = {
    "401": (b'{"code":"1"}', {"Authorization": "Bearer none"}),
    "413": (b" " * (2 << 20), {}),
    "415": (b'{"code":"1"}', {"Content-Type": "text/plain"}),
    "422": (b'{"code":1}', {}),
    "429": (b'{"code":"1"}', {}),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("status", list(BODIES))
async def test_a_refused_request_is_gone_without_the_collector(
    start_gateway: StartGateway, tmp_path: Path, status: str
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(line("t", "t"))
    gateway = await start_gateway(max_body_mb=1, max_queued=1, api_keys_file=keys)
    known = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    assert (await gateway.client.post("/v1/calls?wait=0", json={"code": "1"}, headers=known)).status_code == 202
    body, headers = BODIES[status]
    others = errors()  # of earlier tests
    for _ in range(20):
        answer = await gateway.client.post("/v1/calls", content=body, headers=known | headers)
        assert answer.status_code == int(status)
    left = [error for error in errors() if not any(error is other for other in others)]
    assert len(left) <= 1  # a refusal that stands


def errors() -> list[SandboxError]:
    return [found for found in gc.get_objects() if issubclass(type(found), SandboxError)]
