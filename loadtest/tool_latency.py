"""How long tool calls take through the SDK: a measured distribution for the simulator, written to `tool_latency.json`.

    python -m loadtest.tool_latency [--url URL] [--calls 1000] [--in-flight 4]

The programs of the workload `toolcalls` that end by themselves, each a request of its own, so many in flight; a
latency is from asking the SDK to its Result. The file has the quantiles, the circumstances and the command.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

from loadtest import target
from loadtest.workload import load
from sandbox_service.client import AsyncSandboxClient, Call

OUT = Path(__file__).with_name("tool_latency.json")
QUANTILES = 200


async def measure(url: str, calls: list[Call], in_flight: int) -> list[float]:
    """Seconds of each call."""
    gate = asyncio.Semaphore(in_flight)
    async with AsyncSandboxClient(url) as client:

        async def timed(call: Call) -> float:
            async with gate:
                asked = time.monotonic()
                await client.run(call)
                return time.monotonic() - asked

        return sorted(await asyncio.gather(*(timed(call) for call in calls)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target.add_option(parser)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=4)
    options = parser.parse_args()
    programs = [program for program in load("toolcalls") if program.expected.status in ("ok", "failed")]
    chance = random.Random(0)  # noqa: S311
    calls = [chance.choice(programs).call for _ in range(options.calls)]
    with target.service(options.url) as url:
        seconds = asyncio.run(measure(url, calls, options.in_flight))
    quantiles = [round(seconds[int((n + 0.5) / QUANTILES * len(seconds))], 4) for n in range(QUANTILES)]
    report = {
        "command": f"python -m loadtest.tool_latency {' '.join(sys.argv[1:])}".strip(),
        "calls": len(seconds),
        "in_flight": options.in_flight,
        "cpus": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "mean_s": round(sum(seconds) / len(seconds), 4),
        "quantiles_s": quantiles,
    }
    OUT.write_text(json.dumps(report) + "\n")
    print({key: value for key, value in report.items() if key != "quantiles_s"})
    print({f"p{p}": quantiles[QUANTILES * p // 100] for p in (5, 50, 90, 99)})


if __name__ == "__main__":
    main()
