"""The only gateway is killed while the client SDK waits, and comes back at the same address."""

from __future__ import annotations

import asyncio

import pytest

from sandbox_service.client import AsyncSandboxClient, Call
from tests.conftest import WaitUntil
from tests.gateway.apart import free_ports, process
from tests.gateway.conftest import ScriptedWorker

LONG_S = 20.0
"""Far more than anything here takes."""


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_nothing_is_lost_or_doubled(
    scheme: str, environment: dict[str, str], worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """SIGKILL when 120 of 200 calls of a batch are answered and 80 run; 50 single calls wait beside them. The next
    gateway knows nothing of them; each call has its Result, and ran once."""
    http_port, grpc_port = free_ports(2)
    settings = {**environment, "SANDBOX_PORT": str(http_port), "SANDBOX_GRPC_PORT": str(grpc_port)}
    ids = [f"c{n}" for n in range(200)]
    calls = [Call(id=id, code="hold" if n >= 120 else id) for n, id in enumerate(ids)]
    port = {"http": http_port, "grpc": grpc_port}[scheme]
    async with AsyncSandboxClient(f"{scheme}://127.0.0.1:{port}") as client:
        async with process(**settings) as gateway:
            await gateway.event("ready")
            batch = asyncio.ensure_future(client.run_batch(calls))
            singles = [asyncio.ensure_future(client.run(f"hold {n}")) for n in range(50)]
            await wait_until(lambda: len(worker.runs) == 250, timeout_s=LONG_S)
            gateway.process.kill()
            await gateway.process.wait()
        await wait_until(lambda: client.stats().retries, timeout_s=LONG_S)
        assert not batch.done()
        for id in list(worker.runs)[::2]:  # while there is no gateway: nobody hears of these
            if worker.holds(id):
                await worker.let_go(id)
        async with process(**settings) as gateway:
            await gateway.event("ready")
            for id in filter(worker.holds, list(worker.runs)):
                await worker.let_go(id)
            results = await asyncio.wait_for(batch, LONG_S)
            answers = await asyncio.wait_for(asyncio.gather(*singles), LONG_S)
        assert client.stats().calls == 250
    assert [(each.id, each.status, each.stdout) for each in results] == [(each.id, "ok", each.code) for each in calls]
    assert [(each.status, each.stdout) for each in answers] == [("ok", f"hold {n}") for n in range(50)]
    assert len(set(worker.runs)) == len(worker.runs) == 250
