"""The client in the workers of torch's DataLoader, as a trainer's data set uses it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox_service.client import AsyncSandboxClient, SandboxClient
from tests.client.scripted import ScriptedServer, echo

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow
ROWS = 24


class Checked(torch.utils.data.Dataset):  # type: ignore[name-defined,misc]
    """Each row is what a call answered, and the process that asked."""

    def __init__(self, client: SandboxClient | AsyncSandboxClient) -> None:
        self.client = client

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.client, SandboxClient):
            result = self.client.run(str(index))
        else:
            result = asyncio.run(self.run(str(index)))
        return index, result.stdout, os.getpid()

    async def run(self, code: str) -> Any:
        async with self.client as client:  # type: ignore[union-attr]
            return await client.run(code)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    scripted.script = [echo]
    yield scripted
    scripted.close()


@pytest.mark.parametrize(
    ("kind", "context"),
    [
        (SandboxClient, "fork"),
        (SandboxClient, "spawn"),
        (AsyncSandboxClient, "fork"),
        (AsyncSandboxClient, "forkserver"),
    ],
)
def test_a_data_set_calls_from_the_workers_of_a_loader(
    server: ScriptedServer, kind: type[SandboxClient] | type[AsyncSandboxClient], context: str
) -> None:
    """Two workers, the parent's client in use before and after: each row is its own call's answer."""
    rows = Checked(kind(server.url))
    loader = torch.utils.data.DataLoader(
        rows, batch_size=4, num_workers=2, collate_fn=list, multiprocessing_context=context, timeout=50
    )
    assert rows[0][1] == "0"
    found = [row for batch in loader for row in batch]
    assert [(index, answer) for index, answer, _ in found] == [(n, str(n)) for n in range(ROWS)]
    assert len({pid for _, _, pid in found} - {os.getpid()}) == 2
    assert rows[1][1] == "1"
    if isinstance(rows.client, SandboxClient):
        rows.client.close()
