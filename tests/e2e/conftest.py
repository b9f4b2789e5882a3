"""One running service for all of these tests: `serve`'s own parts on a port, run folder and Redis of their own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox_service.serve import temporary_service

Answer = dict[str, Any]
"""A Result as it came over the wire."""
RunCall = Callable[..., Coroutine[Any, Any, Answer]]

_TEST_S = 60
_ANSWER_S = 50.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)
            if item.get_closest_marker("timeout") is None:
                # Not the fixtures' time: the first test waits for the service, which may have to build its image.
                item.add_marker(pytest.mark.timeout(_TEST_S, func_only=True))


@pytest.fixture(scope="session")
def service_url() -> Iterator[str]:
    with temporary_service() as url:
        yield url


@pytest.fixture
async def http(service_url: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=256)
    async with httpx.AsyncClient(base_url=service_url, timeout=_ANSWER_S, limits=limits, trust_env=False) as client:
        yield client


@pytest.fixture
def run(http: httpx.AsyncClient) -> RunCall:
    """`await run(code, stdin=..., limits={...})`: one call over raw HTTP; its Result, whose status must be 200.

    However a program ends, it is not run again: only a fault of ours causes a second attempt (R2).
    """

    async def run(code: str, **fields: Any) -> Answer:
        response = await http.post("/v1/calls", json={"code": code, **fields})
        assert response.status_code == httpx.codes.OK, response.text
        result: Answer = json.loads(response.content)
        assert result["attempts"] <= 1, result
        return result

    return run
