"""Many clients at once, each sending one call of the workload after the other; every answer is checked.

    python -m loadtest.mixed [--url URL] [--calls 2000] [--clients 64] [--seed 0] [--humaneval]

With `--humaneval`, HumanEval's programs (with their solutions) are among the calls. Exit code 1 if one answer is not
the expected one, is missing, or comes with another call's id. No call of either expects to be ended by SIGSYS, which
is what a refused system call would do: the number of those is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import cycle, islice

from rich.console import Console
from rich.progress import Progress

from loadtest import target
from loadtest.workload import WorkloadCall, humaneval, humaneval_path, load
from sandbox_service.client import AsyncSandboxClient
from sandbox_service.errors import SandboxError

console = Console()


@dataclass
class Report:
    statuses: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    """Of calls that are expected to be `ok`, so that time-outs do not hide what the service does."""
    wrong: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[int(share * (len(ordered) - 1))]


def choose(count: int, seed: int, *, with_humaneval: bool = False) -> list[WorkloadCall]:
    """Return `count` calls in random order; each of the workload's occurs about equally often."""
    calls = load("toolcalls") + (humaneval() if with_humaneval else [])
    chosen = list(islice(cycle(calls), count))
    random.Random(seed).shuffle(chosen)  # noqa: S311  (an order, not a secret)
    return chosen


async def run(url: str, calls: list[WorkloadCall], clients: int) -> Report:
    report, waiting = Report(), list(enumerate(calls))
    with Progress(console=console) as progress:
        bar = progress.add_task(f"{len(calls)} calls, {clients} clients", total=len(calls))

        async def one_client() -> None:
            async with AsyncSandboxClient(url) as client:
                while waiting:
                    await send(client, *waiting.pop(), report)
                    progress.advance(bar)

        await asyncio.gather(*(one_client() for _ in range(clients)))
    return report


async def send(client: AsyncSandboxClient, number: int, item: WorkloadCall, report: Report) -> None:
    call = item.call.model_copy(update={"id": f"mixed-{number}-{random.getrandbits(64):x}"})
    begun = time.monotonic()
    try:
        result = await client.run(call)
    except SandboxError as error:
        report.wrong.append(f"{item.name}: no answer: {error!r}")
        return
    if item.expected.status == "ok":
        report.latencies_s.append(time.monotonic() - begun)
    report.statuses[result.status.value] += 1
    if result.signal is not None:
        report.signals[result.signal] += 1
    report.ids.add(result.id)
    if result.id != call.id:
        report.wrong.append(f"{item.name}: asked as {call.id}, answered as {result.id}")
    report.wrong += [f"{item.name}: {sentence}" for sentence in item.expected.mismatches(result)]


def _others(signals: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in signals.items() if name != "SIGSYS") or "none"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target.add_option(parser)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--humaneval", action="store_true", help="HumanEval's programs too (the variable HUMANEVAL)")
    options = parser.parse_args()
    if options.humaneval and not humaneval_path().exists():
        parser.error(f"HumanEval is not at {humaneval_path()}: give its place with HUMANEVAL=FILE")
    calls = choose(options.calls, options.seed, with_humaneval=options.humaneval)
    with target.service(options.url) as url:
        begun = time.monotonic()
        report = asyncio.run(run(url, calls, options.clients))
        took_s = time.monotonic() - begun
    for status, count in report.statuses.most_common():
        console.print(f"{count:6} {status}")
    console.print(f"ended by SIGSYS: {report.signals['SIGSYS']}; by another signal: {_others(report.signals)}")
    console.print(
        f"{len(report.ids)} of {len(calls)} calls answered in {took_s:.1f} s ({len(calls) / took_s:.0f}/s); "
        f"{len(report.wrong)} wrong; calls that are ok: p50 {report.percentile_ms(0.5):.0f} ms, "
        f"p99 {report.percentile_ms(0.99):.0f} ms"
    )
    for sentence in report.wrong[:50]:
        console.print(sentence, markup=False)
    return 1 if report.wrong or len(report.ids) != len(calls) else 0


if __name__ == "__main__":
    sys.exit(main())
