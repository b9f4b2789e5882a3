"""Five times as many calls as the service can run (L14): what it still gets done, and what becomes of the rest.

    python -m tests.chaos.overload [seconds of overload] [--busy]

The calls sleep, so that the slots are what is short and not this machine's CPUs; with `--busy` they do next to nothing,
so that it is the CPUs, of which the refusals take their part, and the client too. First the peak: as many clients as
keep all slots busy. Then calls arrive at five times that rate, whatever becomes of them; then the peak once more, since
a machine that got slower meanwhile is no fault of the overload. Goodput is what ends as `ok` in time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtest.load.drive import Connection, Refused
from tests.chaos.rig import SLOTS, Rig

PAUSE_S = 0.4
TIMEOUT_S = 8.0
FACTOR = 5
PEAK_S = 6.0
CLIENTS = 4 * SLOTS
MOST_OPEN = 8000
"""Calls under way at once: more only tell that this client, on the same CPUs, is too slow for its part."""
SLEEPY = f"import time; time.sleep({PAUSE_S}); print(1)"
BUSY = "print(1)"


@dataclass
class Report:
    peak: float
    """`ok` per second, with every slot busy and little queued."""
    goodput: float
    """`ok` per second at five times that."""
    outcomes: Counter[str]
    """Of the overload's calls: statuses of what was accepted, and HTTP codes of what was not; `MOST_OPEN`: not sent."""
    silent: int
    """Refusals without Retry-After."""
    slowest_refusal_s: float
    client_cpus: tuple[float, float]
    """CPUs that this client took from the service, at the peak and at five times that."""
    cpu_ms: tuple[float, float]
    """CPU time of the whole service for each `ok`, at the peak and at five times that."""
    memory_mb: dict[str, tuple[float, float]]
    """Of each part, before and after."""

    def lines(self) -> str:
        memory = ", ".join(f"{name} {before:.0f} -> {after:.0f}" for name, (before, after) in self.memory_mb.items())
        return (
            f"peak {self.peak:.1f}/s, goodput at {FACTOR} times that {self.goodput:.1f}/s "
            f"({self.goodput / self.peak:.0%})\noutcomes {dict(self.outcomes)}, slowest refusal "
            f"{self.slowest_refusal_s:.2f} s\nthe client's own part: {self.client_cpus[0]:.2f} CPUs at the peak, "
            f"{self.client_cpus[1]:.2f} then\nthe service's CPU time for each `ok`: {self.cpu_ms[0]:.2f} ms at "
            f"the peak, {self.cpu_ms[1]:.2f} then\nMiB: {memory}"
        )


class Client:
    """Sends calls to one gateway, each on a connection of its own while it lasts."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: list[Connection] = []

    async def post(self, body: bytes) -> dict[str, Any]:
        """The Result, or what is in the answer of a refusal."""
        connection = self._idle.pop() if self._idle else Connection(self._url, None)
        try:
            stream = await connection.post("/v1/calls", body, "*/*", lambda: None)
            answer: dict[str, Any] = json.loads(await connection.body(stream))
        except Refused as refusal:
            answer = {"refused": str(refusal)}
        connection.rest()
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        for connection in self._idle:
            connection.close()


async def measure(rig: Rig, overload_s: float, code: str = SLEEPY) -> Report:
    clients = [Client(url) for url in rig.urls]
    await _peak(clients, code, PEAK_S)  # the estimate of how long calls take follows what is sent
    client_s, cpu_s = time.process_time(), rig.cpu_s()
    before = await _peak(clients, code, PEAK_S)
    peak_cpus = (time.process_time() - client_s) / PEAK_S
    peak_cpu_s = (rig.cpu_s() - cpu_s) / (before * PEAK_S)
    memory = _memory(rig)
    outcomes: Counter[str] = Counter()
    refusals: list[float] = []
    silent = 0
    body = json.dumps({"code": code, "timeout_s": TIMEOUT_S}).encode()

    async def one(client: Client) -> None:
        nonlocal silent
        began = time.monotonic()
        answer = await client.post(body)
        if "refused" not in answer:
            outcomes[answer["status"]] += 1
            return
        outcomes[answer["refused"][:8]] += 1
        refusals.append(time.monotonic() - began)
        silent += '"retry_after_s"' not in answer["refused"]

    tasks: set[asyncio.Task[None]] = set()
    begun, client_s, cpu_s = time.monotonic(), time.process_time(), rig.cpu_s()
    for number, client in zip(itertools.count(), itertools.cycle(clients)):
        due = begun + number / (FACTOR * before)
        if due > begun + overload_s:
            break
        if (pause_s := due - time.monotonic()) > 0:
            await asyncio.sleep(pause_s)
        if len(tasks) >= MOST_OPEN:
            outcomes["not sent"] += 1
            await asyncio.sleep(0)
            continue
        task = asyncio.create_task(one(client))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    took_s = time.monotonic() - begun
    cpu_ms = 1000 * peak_cpu_s, 1000 * (rig.cpu_s() - cpu_s) / max(1, outcomes["ok"])
    client_cpus = (peak_cpus, (time.process_time() - client_s) / took_s)
    after = {name: (memory[name], mib) for name, mib in _memory(rig).items()}
    again = await _peak(clients, code, PEAK_S)
    for client in clients:
        client.close()
    return Report(
        peak=(before + again) / 2,
        goodput=outcomes["ok"] / took_s,
        outcomes=outcomes,
        silent=silent,
        slowest_refusal_s=max(refusals, default=0.0),
        client_cpus=client_cpus,
        cpu_ms=cpu_ms,
        memory_mb=after,
    )


async def _peak(clients: Sequence[Client], code: str, seconds: float) -> float:
    done = 0
    begun = time.monotonic()
    body = json.dumps({"code": code}).encode()

    async def one_client(client: Client) -> None:
        nonlocal done
        while time.monotonic() < begun + seconds:
            answer = await client.post(body)
            done += answer.get("status") == "ok"

    await asyncio.gather(*(one_client(clients[number % 2]) for number in range(CLIENTS)))
    return done / (time.monotonic() - begun)


def _memory(rig: Rig) -> dict[str, float]:
    pids = {part.name: part.pid for part in rig.parts} | {"redis": rig.server.pid}
    return {name: _rss_mib(pid) for name, pid in pids.items()}


def _rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


async def main(overload_s: float, code: str) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one connection for each call that waits
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)
        async with Rig(Path(folder)) as rig:
            print((await measure(rig, overload_s, code)).lines())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", type=float, nargs="?", default=30.0)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    asyncio.run(main(options.seconds, BUSY if options.busy else SLEEPY))
