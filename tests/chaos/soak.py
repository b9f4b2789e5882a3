"""A long run: a hundred thousand calls, a fifth of them hostile. Nothing may grow, nothing may get slower.

    python -m tests.chaos.soak [--calls 100000] [--rounds 20] [--out FILE.md]

Each round: a mixture of hostile calls and of the ledger's; then the ledger's alone, in batches, in turns with cold
interpreters, for the speed; then silence, until every Result has passed its time to live, and a look at everything that
could have grown. The first round warms up and is not compared. Speed is CPU time of the whole service per call, by a
cold interpreter's: other load makes both dearer. Exit code 1 if anything was lost, wrong or foreign, grew, or got
slower by more than 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console

from loadtest.ledger import PATIENT, Ledger
from sandbox_service.client import AsyncSandboxClient
from tests.chaos.hostile import HOSTILE, Hostile
from tests.chaos.rig import Rig, until
from tests.e2e.processes import descendants_of

CLIENTS = 16
BATCH = 64
RESULT_TTL_S = 3.0
HOSTILE_SHARE = 0.2
SPEED_SHARE = 0.4
"""Of a round's calls: those sent in batches, whose speed is measured."""
SLOWER_BY = 0.05
_PARTS = 4
"""Of a round's batches; before each of them cold interpreters are measured."""
_COLD_S = 0.75
_COLD = [sys.executable, "-I", "-S", "-c", "pass"]
console = Console(stderr=True)


@dataclass
class Look:
    """What there is when all is quiet. Memory in MiB."""

    calls: int
    gateways_mb: float
    workers_mb: float
    zygotes_mb: float
    redis_mb: float
    descriptors: int
    """Without those of connections to Redis, at either end: their pools grow with the busiest moment so far, up to 64
    for each part."""
    processes: int
    mounts: int
    cgroups: int
    redis_keys: int
    cpu_ms_per_call: float = 0.0
    cold_ms: float = 0.0
    """CPU time of a cold interpreter in the same moments: other load makes it dearer as it does the calls."""
    calls_per_cold_start: float = 0.0
    """Calls a second of the service, divided by cold interpreters a second."""

    @property
    def cpu_ratio(self) -> float:
        return self.cpu_ms_per_call / self.cold_ms


@dataclass
class Pace:
    """The service's speed beside that of cold interpreters, measured in turns."""

    calls: int = 0
    calls_s: float = 0.0
    calls_cpu_s: float = 0.0
    colds: int = 0
    colds_s: float = 0.0
    colds_cpu_s: float = 0.0

    def add(self, calls: int, took_s: float, cpu_s: float) -> None:
        self.calls += calls
        self.calls_s += took_s
        self.calls_cpu_s += cpu_s

    def measure_cold(self) -> None:
        """Cold interpreters, as many at a time as there are CPUs."""
        begun = time.monotonic()
        while time.monotonic() < begun + _COLD_S:
            pool = [os.posix_spawn(sys.executable, _COLD, os.environ) for _ in os.sched_getaffinity(0)]
            for pid in pool:
                _, status, used = os.wait4(pid, 0)
                assert status == 0
                self.colds_cpu_s += used.ru_utime + used.ru_stime
            self.colds += len(pool)
        self.colds_s += time.monotonic() - begun

    @property
    def call_ms(self) -> float:
        return 1000 * self.calls_cpu_s / self.calls

    @property
    def cold_ms(self) -> float:
        return 1000 * self.colds_cpu_s / self.colds

    @property
    def speed(self) -> float:
        return (self.calls / self.calls_s) / (self.colds / self.colds_s)


@dataclass
class Soak:
    rig: Rig
    looks: list[Look] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    held: list[Counter[str]] = field(default_factory=list)
    """At each look: what the descriptors are, as `part:kind`."""
    sent: int = 0

    async def round(self, calls: int) -> None:
        ledger = Ledger(self.rig.urls, run=f"soak-{time.monotonic_ns():x}", longest_pause_s=0)
        speed = round(calls * SPEED_SHARE)
        hostile = [random.choice(HOSTILE) for _ in range(round(calls * HOSTILE_SHARE))]
        friendly: list[Hostile | None] = [None] * (calls - speed - len(hostile))
        mixture = [*hostile, *friendly]
        random.shuffle(mixture)
        async with AsyncSandboxClient(self.rig.urls[0], retries=PATIENT) as sdk:
            await self._mixture(sdk, ledger, mixture)
            pace = Pace()
            for part in range(_PARTS):
                await asyncio.to_thread(pace.measure_cold)
                cpu_before, begun = self.rig.cpu_s(), time.monotonic()
                count = speed * (part + 1) // _PARTS - speed * part // _PARTS
                await self._batches(sdk, ledger, count)
                pace.add(count, time.monotonic() - begun, self.rig.cpu_s() - cpu_before)
        self.sent += calls
        ledger.audit(self.rig.worker_logs())
        tally = ledger.tally()
        self.statuses.update(tally.statuses)
        self.problems += tally.failures + [f"{tally.second_attempts} calls ran twice"] * bool(tally.second_attempts)
        await self._silence()
        look = self.look()
        look.cpu_ms_per_call, look.cold_ms, look.calls_per_cold_start = pace.call_ms, pace.cold_ms, pace.speed
        self.looks.append(look)

    async def _mixture(self, sdk: AsyncSandboxClient, ledger: Ledger, mixture: list[Hostile | None]) -> None:
        waiting = iter(mixture)

        async def one_client() -> None:
            for each in waiting:
                if each is None:
                    call = ledger.open()
                    ledger.close(str(call.id), await sdk.run(call))
                    continue
                result = await sdk.run(each.call())
                self.statuses[result.status.value] += 1
                if result.status.value not in each.may_end:
                    self.problems.append(
                        f"{each.name}: {result.status.value}, {result.message or result.stderr[-200:]}"
                    )

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(one_client())

    async def _batches(self, sdk: AsyncSandboxClient, ledger: Ledger, count: int) -> None:
        numbers = iter(range(0, count, BATCH))

        async def one_client() -> None:
            for start in numbers:
                calls = [ledger.open() for _ in range(min(BATCH, count - start))]
                async for index, result in sdk.map(calls):
                    ledger.close(str(calls[index].id), result)

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(one_client())

    async def _silence(self) -> None:
        """Until what was for a time is gone: Results, their traces, slots being cleaned."""
        await asyncio.sleep(1.0)  # slots are being cleaned
        with self.rig.redis() as client:
            await until(
                lambda: not any(next(client.scan_iter(f"sandbox:{kind}:*"), None) for kind in ("call", "gone")),
                60,
                "keys of calls expire",
            )

    def look(self) -> Look:
        gateways = [part.pid for part in self.rig.gateways]
        workers = [part.pid for part in self.rig.workers]
        jails = [pid for worker in workers for pid in descendants_of(worker)]
        everybody = [*gateways, *workers, *jails, self.rig.server.pid]
        self.held.append(Counter(f"{self._name(pid)}:{kind}" for pid in everybody for kind in _held(pid)))
        with self.rig.redis() as client:
            client.execute_command("MEMORY", "PURGE")
            keys = sum(client.ttl(key) < 0 for key in client.scan_iter())  # the others are bounded by `_silence`
            used = client.info("memory")["used_memory"]
            connections = client.info("clients")["connected_clients"]
        return Look(
            calls=self.sent,
            gateways_mb=_memory_mb(gateways),
            workers_mb=_memory_mb(workers),
            zygotes_mb=_memory_mb(jails),
            redis_mb=used / (1 << 20),
            descriptors=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in everybody) - 2 * connections + 1,
            processes=len(everybody),
            mounts=sum(_lines(f"/proc/{pid}/mountinfo") for pid in everybody),
            cgroups=sum(len(list(Path(folder).rglob("*/"))) for folder in self.rig.groups()),
            redis_keys=keys,
        )

    def _name(self, pid: int) -> str:
        names = {part.pid: part.name for part in self.rig.parts} | {self.rig.server.pid: "redis"}
        return names.get(pid, "jail")

    def verdict(self) -> list[str]:
        """What is not as it has to be, over all rounds but the first."""
        more = ", ".join(f"{count} {what}" for what, count in (self.held[-1] - self.held[1]).items())
        grown = growth(self.looks[1:])
        return self.problems + grown + [f"descriptors that the second look had not: {more or 'none'}"] * bool(grown)


def growth(looks: list[Look]) -> list[str]:
    """Compare the first third with the last one: counts may not grow, memory by 5 % and 4 MiB at most."""
    third = max(1, len(looks) // 3)
    first, last = looks[:third], looks[-third:]
    found = []
    for name in ("descriptors", "processes", "mounts", "cgroups", "redis_keys"):
        before, after = (max(getattr(look, name) for look in part) for part in (first, last))
        passing = 4 if name == "descriptors" else 0  # one that was open just then; a leak would be thousands
        if after > before + passing:
            found.append(f"{name} grew from {before} to {after}")
    for name in ("gateways_mb", "workers_mb", "zygotes_mb", "redis_mb"):
        before, after = _medians(name, first, last)
        if after > before * 1.05 + 4:
            found.append(f"{name} grew from {before:.1f} to {after:.1f}")
    before, after = _medians("cpu_ratio", first, last)
    if after > before * (1 + SLOWER_BY):
        found.append(f"a call costs the CPU time of {after:.3f} cold interpreters, {before:.3f} at the start")
    return found


def _medians(name: str, first: list[Look], last: list[Look]) -> tuple[float, float]:
    before, after = (statistics.median(getattr(look, name) for look in part) for part in (first, last))
    return before, after


def _held(pid: int) -> list[str]:
    """Kinds of a process's open descriptors: `socket`, `pipe`, `anon_inode`, or the path of a file."""
    return [os.readlink(descriptor).partition(":")[0] for descriptor in Path(f"/proc/{pid}/fd").iterdir()]


def _memory_mb(pids: list[int]) -> float:
    """Their memory, each shared page in proportion (Pss of proc(5))."""
    total = 0
    for pid in pids:
        lines = _text(f"/proc/{pid}/smaps_rollup").splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _lines(path: str) -> int:
    return _text(path).count("\n")


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def table(looks: list[Look]) -> str:
    names = list(asdict(looks[0]))
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    for look in looks:
        cells = [f"{value:.2f}" if isinstance(value, float) else str(value) for value in asdict(look).values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


async def run(calls: int, rounds: int, out: Path | None) -> int:
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        Path(folder).chmod(0o711)  # the jails' users have to reach what is below
        async with Rig(Path(folder), SANDBOX_RESULT_TTL_S=str(RESULT_TTL_S)) as rig:
            soak = Soak(rig)
            for number in itertools.count(1):
                begun = time.monotonic()
                await soak.round(calls // rounds)
                look = soak.looks[-1]
                console.print(f"round {number} of {rounds}: {time.monotonic() - begun:.0f} s, {look}", highlight=False)
                if out:
                    out.write_text(table(soak.looks))
                if number == rounds:
                    break
            found = soak.verdict()
            if any(part.exit_codes for part in rig.parts):
                found.append("a part of the service ended meanwhile")
    print(table(soak.looks))
    print(f"{soak.sent} calls: " + ", ".join(f"{count} {status}" for status, count in soak.statuses.most_common()))
    for sentence in found[:50]:
        print(sentence)
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, help="file to write the table to, as Markdown, after every round")
    options = parser.parse_args()
    return asyncio.run(run(options.calls, options.rounds, options.out))


if __name__ == "__main__":
    sys.exit(main())
