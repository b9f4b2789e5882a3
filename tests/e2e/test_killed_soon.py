"""How long a program lives on after its client gave it up, by the program's own last sign of life."""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import WaitUntil
from tests.e2e.running import Running

SOON_S = 0.25
TRIES = 10
TICKING = "import time\nwhile True:\n    print(time.monotonic(), flush=True)\n    time.sleep(0.005)"


@pytest.fixture
async def service(wait_until: WaitUntil) -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="killed-") as name:
        Path(name).chmod(0o711)
        service = Running(Path(name), SANDBOX_LOG_LEVEL="debug")
        try:
            await wait_until(lambda: service.url, timeout_s=45)
            yield service
        finally:
            service.process.terminate()
            await asyncio.to_thread(service.process.wait, 45)


def started(service: Running) -> list[str]:
    """Ids of the calls that its worker started, in order."""
    lines = [line for line in service.log.read_text().splitlines() if '"execution started"' in line]
    return [json.loads(line)["call"] for line in lines]


async def last_sign(http: httpx.AsyncClient, call_id: str, wait_until: WaitUntil) -> float:
    """When the cancelled program wrote for the last time, on this machine's monotonic clock."""
    found: list[dict[str, str]] = []

    async def done() -> bool:
        answer = await http.get(f"/v1/calls/{call_id}")
        if answer.status_code == httpx.codes.OK:
            found.append(answer.json())
        return bool(found)

    await wait_until(done, timeout_s=20)
    assert found[0]["status"] == "cancelled", found
    return float(found[0]["stdout"].split("\n")[-2])


@pytest.mark.parametrize("way", ["left", "deleted"])
async def test_a_program_that_nobody_wants_is_dead_soon(service: Running, wait_until: WaitUntil, way: str) -> None:
    """Within 250 ms of the connection's end, or of a DELETE: half of the tries, since this machine may be busy."""
    lived_on: list[float] = []
    async with httpx.AsyncClient(base_url=service.url, timeout=50, trust_env=False) as http:
        for number in range(TRIES):
            post = asyncio.create_task(http.post("/v1/calls", json={"code": TICKING}))
            await wait_until(lambda n=number: len(started(service)) > n, timeout_s=20)
            call_id = started(service)[number]
            await asyncio.sleep(0.1)
            given_up = time.monotonic()
            if way == "left":
                post.cancel()
            else:
                await http.delete(f"/v1/calls/{call_id}")
            await asyncio.wait([post])
            lived_on.append(await last_sign(http, call_id, wait_until) - given_up)
    print(f"{way}: lived on for {sorted(round(1000 * each) for each in lived_on)} ms")
    assert statistics.median(lived_on) < SOON_S
