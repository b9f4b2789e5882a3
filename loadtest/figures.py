"""First figures: calls a second of the service next to a pool of cold interpreters, and the latency of one call.

    python -m loadtest.figures [--url URL] [--rounds 3] [--out loadtest/reports]

Both sides run the same code with the image's own interpreter and on the same cores, in turns, a few seconds each, so
that what else the machine does hits both; the ratio is taken within a round, and the median over rounds is reported.
The pool is one `python -I` per CPU at a time: no isolation and no service. Every answer is checked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from loadtest import target
from sandbox_service.client import AsyncSandboxClient, SandboxClient
from sandbox_service.models import Status

BATCH = 64
BATCHES_AT_ONCE = 4
console = Console(stderr=True)


@dataclass(frozen=True)
class Case:
    name: str
    code: str
    stdout: str
    service_calls: int
    """In each round; a multiple of BATCH."""
    cold_calls: int


CASES = (
    Case("print(1)", "print(1)", "1\n", 1024, 192),
    Case("numpy", "import numpy as np\nprint(int(np.arange(10).sum()))", "45\n", 1024, 24),
    Case(
        "sympy solve",
        "from sympy import solve, symbols\nx = symbols('x')\nprint(solve(x**2 - 5*x + 6, x))",
        "[2, 3]\n",
        512,
        12,
    ),
)


@dataclass(frozen=True)
class Throughput:
    case: str
    service_per_s: list[float]
    cold_per_s: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(s / c for s, c in zip(self.service_per_s, self.cold_per_s, strict=True))


@dataclass(frozen=True)
class Latency:
    calls: int
    p50_ms: float
    p99_ms: float


async def service_rate(url: str, case: Case) -> float:
    """Calls a second, in batches of 64, some of them at once."""
    batches = case.service_calls // BATCH
    async with AsyncSandboxClient(url) as client:

        async def some(count: int) -> None:
            for _ in range(count):
                for result in await client.run_batch([case.code] * BATCH):
                    if (result.status, result.stdout) != (Status.OK, case.stdout):
                        raise SystemExit(f"wrong answer for {case.name}: {result}")

        begun = time.monotonic()
        await asyncio.gather(*(some(batches // BATCHES_AT_ONCE) for _ in range(BATCHES_AT_ONCE)))
        return case.service_calls / (time.monotonic() - begun)


def cold_rate(python: Path, case: Case) -> float:
    """Calls a second of one new interpreter per call, as many at a time as there are CPUs."""

    def one(_: int) -> None:
        # -B: the image belongs to the service, nothing may be written into it.
        done = subprocess.run([python, "-I", "-B", "-c", case.code], capture_output=True, text=True, timeout=60)
        if (done.returncode, done.stdout) != (0, case.stdout):
            raise SystemExit(f"wrong answer of a cold interpreter for {case.name}: {done.stderr}")

    begun = time.monotonic()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, range(case.cold_calls)))
    return case.cold_calls / (time.monotonic() - begun)


def measure_throughput(url: str, python: Path, rounds: int) -> Iterator[Throughput]:
    for case in CASES:
        asyncio.run(service_rate(url, case))
        pairs = []
        for number in range(rounds):
            console.print(f"{case.name}: round {number + 1} of {rounds}")
            pairs.append((asyncio.run(service_rate(url, case)), cold_rate(python, case)))
        yield Throughput(case.name, [service for service, _ in pairs], [cold for _, cold in pairs])


def measure_latency(url: str, calls: int) -> Latency:
    """One client, one `print(1)` after the other, on an idle service."""
    console.print(f"latency of {calls} single calls")
    taken_ms = []
    with SandboxClient(url) as client:
        client.run("print(1)")
        for _ in range(calls):
            begun = time.monotonic()
            client.run("print(1)")
            taken_ms.append(1000 * (time.monotonic() - begun))
    cuts = statistics.quantiles(taken_ms, n=100)
    return Latency(calls, cuts[49], cuts[98])


def machine() -> dict[str, str | int]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model[0].partition(": ")[2] if model else platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit or "unknown",
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
    }


def markdown(facts: dict[str, str | int], rows: list[Throughput], latency: Latency) -> str:
    lines = [
        ", ".join(f"{name}: {value}" for name, value in facts.items()),
        "",
        "| call | service, calls/s | cold `python -I`, calls/s | ratio |",
        "|---|---|---|---|",
    ]
    for row in rows:
        service, cold = statistics.median(row.service_per_s), statistics.median(row.cold_per_s)
        lines.append(f"| {row.case} | {service:.0f} | {cold:.1f} | {row.ratio:.1f} |")
    lines += ["", f"One `print(1)` at a time: p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target.add_option(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency-calls", type=int, default=500)
    parser.add_argument("--out", type=Path, help="folder to write figures.md and figures.json to")
    options = parser.parse_args()
    facts = machine()
    with target.service(options.url) as url:
        latency = measure_latency(url, options.latency_calls)
        rows = list(measure_throughput(url, target.image_python(), options.rounds))
    report = markdown(facts, rows, latency)
    print(report)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "figures.md").write_text(report)
        figures = {"machine": facts, "throughput": [asdict(row) for row in rows], "latency": asdict(latency)}
        (options.out / "figures.json").write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
