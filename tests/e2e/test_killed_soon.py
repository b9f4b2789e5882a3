"""How long a program lives on after its client gave it up, by the program's own last sign of life.

The program notes the machine's monotonic clock every 5 ms; the last note is when it died. Its longest gap between two
notes while nobody touched it tells how late this machine wakes whoever has something to do, and some ten wake-ups lie
between a client's leaving and the kill (client, gateway, Redis, worker, kernel): a busy machine is granted that much.
"""

from __future__ import annotations

import itertools
import statistics
import time

import httpx
import pytest

from tests.conftest import WaitUntil

SOON_S = 0.25
WAKE_UPS = 10
TRIES = 7
TICK_S = 0.005
TICKING = f"import time\nwhile True:\n    print(time.monotonic(), flush=True)\n    time.sleep({TICK_S})"


async def notes_of(http: httpx.AsyncClient, url: str, wait_until: WaitUntil) -> list[float]:
    """What the cancelled program noted."""
    found: list[dict[str, str]] = []

    async def done() -> bool:
        answer = await http.get(url)
        if answer.status_code == httpx.codes.OK:
            found.extend(answer.json()["results"])
        return bool(found)

    await wait_until(done, timeout_s=20)
    assert found[0]["status"] == "cancelled", found
    return [float(line) for line in found[0]["stdout"].split("\n")[:-1]]


async def until_running(http: httpx.AsyncClient, url: str, wait_until: WaitUntil) -> None:
    async def running() -> bool:
        return bool((await http.get(url)).json()["state"] == "running")

    await wait_until(running, timeout_s=20)


@pytest.mark.parametrize("way", ["left", "deleted"])
async def test_a_program_that_nobody_wants_is_dead_soon(
    http: httpx.AsyncClient, wait_until: WaitUntil, way: str
) -> None:
    """Within 250 ms of the connection's end, or of a DELETE, and what a busy machine takes: the median of many."""
    lived_on, delays = [], []
    for _ in range(TRIES):
        batch = {"calls": [{"code": TICKING, "limits": {"output_kb": 1024}}]}
        async with http.stream("POST", "/v1/batches", json=batch, headers={"Accept": "application/x-ndjson"}) as answer:
            url = answer.headers["Location"]
            await until_running(http, url, wait_until)
            time.sleep(0.2)  # (nobody else runs here; the program shows how even its ticks are)
            given_up = time.monotonic()
            if way == "deleted":
                await http.delete(url)
        notes = await notes_of(http, url, wait_until)
        lived_on.append(notes[-1] - given_up)
        delays.append(max(late - early - TICK_S for early, late in itertools.pairwise(notes)))
    print(f"{way}: lived on for {sorted(round(1000 * each) for each in lived_on)} ms, {sorted(delays)=}")
    assert statistics.median(lived_on) < SOON_S + WAKE_UPS * statistics.median(delays)
