"""HumanEval through the running service."""

from __future__ import annotations

from typing import Literal

import pytest

from loadtest.workload import humaneval, humaneval_path
from sandbox_service.client import AsyncSandboxClient

pytestmark = pytest.mark.skipif(
    not humaneval_path().exists(), reason=f"HumanEval is not at {humaneval_path()} (set HUMANEVAL)"
)


@pytest.mark.parametrize("body", ["canonical", "pass"])
async def test_humaneval_in_one_batch(service_url: str, body: Literal["canonical", "pass"]) -> None:
    """All 164 solutions are `ok` in one batch. With `pass` for a body all 164 fail: each test needs a value."""
    calls = humaneval(body=body)
    async with AsyncSandboxClient(service_url) as client:
        results = await client.run_batch([item.call for item in calls])
    assert len(results) == 164
    wrong = [(item.name, list(item.expected.mismatches(r))) for item, r in zip(calls, results, strict=True)]
    assert [entry for entry in wrong if entry[1]] == []
