"""Five times as many calls as the service can run (L14): what it still gets done, and what becomes of the rest.

    python -m tests.chaos.overload [seconds of overload]

The calls sleep, so that the slots are what is short and not this machine's CPUs. First the peak: as many clients as
keep all slots busy. Then calls arrive at five times that rate, whatever becomes of them; then the peak once more, since
a machine that got slower meanwhile is no fault of the overload. Goodput is what ends as `ok` in time.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.chaos.rig import SLOTS, Rig

PAUSE_S = 0.4
TIMEOUT_S = 8.0
FACTOR = 5
PEAK_S = 6.0
CLIENTS = 4 * SLOTS
CODE = f"import time; time.sleep({PAUSE_S}); print(1)"


@dataclass
class Report:
    peak: float
    """`ok` per second, with every slot busy and little queued."""
    goodput: float
    """`ok` per second at five times that."""
    outcomes: Counter[str]
    """Of the overload's calls: statuses of what was accepted, and HTTP codes of what was not."""
    silent: int
    """Refusals without Retry-After."""
    slowest_refusal_s: float
    memory_mb: dict[str, tuple[float, float]]
    """Of each part, before and after."""

    def lines(self) -> str:
        memory = ", ".join(f"{name} {before:.0f} -> {after:.0f}" for name, (before, after) in self.memory_mb.items())
        return (
            f"peak {self.peak:.1f}/s, goodput at {FACTOR} times that {self.goodput:.1f}/s "
            f"({self.goodput / self.peak:.0%})\noutcomes {dict(self.outcomes)}, slowest refusal "
            f"{self.slowest_refusal_s:.2f} s\nMiB: {memory}"
        )


async def measure(rig: Rig, overload_s: float) -> Report:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=60) as http:
        await _peak(rig, http, PEAK_S)  # the estimate of how long calls take follows what is sent
        before = await _peak(rig, http, PEAK_S)
        memory = _memory(rig)
        outcomes: Counter[str] = Counter()
        refusals: list[float] = []
        silent = 0

        async def one(url: str) -> None:
            nonlocal silent
            began = time.monotonic()
            answer = await http.post(f"{url}/v1/calls", json={"code": CODE, "timeout_s": TIMEOUT_S})
            if answer.status_code == httpx.codes.OK:
                outcomes[answer.json()["status"]] += 1
                return
            outcomes[str(answer.status_code)] += 1
            refusals.append(time.monotonic() - began)
            silent += "Retry-After" not in answer.headers

        tasks = []
        begun = time.monotonic()
        for number, url in zip(itertools.count(), itertools.cycle(rig.urls)):
            due = begun + number / (FACTOR * before)
            if due > begun + overload_s:
                break
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(one(url)))
        await asyncio.gather(*tasks)
        took_s = time.monotonic() - begun
        after = {name: (memory[name], mib) for name, mib in _memory(rig).items()}
        again = await _peak(rig, http, PEAK_S)
    return Report(
        peak=(before + again) / 2,
        goodput=outcomes["ok"] / took_s,
        outcomes=outcomes,
        silent=silent,
        slowest_refusal_s=max(refusals, default=0.0),
        memory_mb=after,
    )


async def _peak(rig: Rig, http: httpx.AsyncClient, seconds: float) -> float:
    done = 0
    begun = time.monotonic()

    async def client(number: int) -> None:
        nonlocal done
        while time.monotonic() < begun + seconds:
            answer = await http.post(f"{rig.urls[number % 2]}/v1/calls", json={"code": CODE})
            done += answer.status_code == httpx.codes.OK and answer.json()["status"] == "ok"

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return done / (time.monotonic() - begun)


def _memory(rig: Rig) -> dict[str, float]:
    pids = {part.name: part.pid for part in rig.parts} | {"redis": rig.server.pid}
    return {name: _rss_mib(pid) for name, pid in pids.items()}


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


async def main(overload_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)
        async with Rig(Path(folder)) as rig:
            print((await measure(rig, overload_s)).lines())


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0))
