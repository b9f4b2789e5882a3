"""Whether one slow call holds back those that travel with it.

Each round awaits 64 `run`s of one client at once, which the SDK sends as one stream. One of them sleeps for 10 s; how
long the other 63 take is told for all rounds together, from a service that has run nothing before. Exit code 1 if their
p99 is above 0.3 s, which means little where others used the CPUs meanwhile. `python -m loadtest.coalesced`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from loadtest import target
from loadtest.load import cost
from loadtest.load.crowd import summary_ms
from sandbox_service.client import AsyncSandboxClient

CALLS = 64
SLEEP_S = 10.0
BOUND_S = 0.3
SLOW = f"import time\ntime.sleep({SLEEP_S})\nprint('slow')"
QUICK = "total = 0\nfor n in range({n}):\n    total += n * n\nprint(total)"


async def one_round(client: AsyncSandboxClient, slow: int) -> list[float]:
    """Return how long each of the quick calls took; the `slow`-th of the calls is the one that sleeps."""

    async def run(number: int) -> float:
        begun = time.monotonic()
        if number == slow:
            result, expected = await client.run(SLOW, limits={"wall_s": 2 * SLEEP_S}), "slow\n"
        else:
            result, expected = await client.run(QUICK.format(n=number)), f"{sum(n * n for n in range(number))}\n"
        assert result.stdout == expected, result
        return time.monotonic() - begun

    took = await asyncio.gather(*map(run, range(CALLS)))
    assert took[slow] >= SLEEP_S
    return [seconds for number, seconds in enumerate(took) if number != slow]


async def measure(url: str, rounds: int) -> dict[str, object]:
    async with AsyncSandboxClient(url) as client:
        took = [await one_round(client, slow=(17 * number) % CALLS) for number in range(rounds)]
        repeated = client.stats().retries
    summary = summary_ms(sorted(seconds for each in took for seconds in each))
    return {
        "rounds": rounds,
        "quick_calls": sum(map(len, took)),
        "latency_ms": {name: round(ms, 1) for name, ms in summary.items()},
        "worst_of_each_round_ms": [round(1000 * max(each), 1) for each in took],
        "requests_repeated": repeated,
        "passed": summary["p99"] <= 1000 * BOUND_S,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=10, help="of about 10 s each (default: %(default)s)")
    target.add_option(options)
    asked = options.parse_args()
    with target.service(asked.url) as url:
        before = cost.take(None, time.monotonic())
        found = asyncio.run(measure(url, asked.rounds))
        others = cost.take(None, time.monotonic()).since(before).foreign_share
    print(json.dumps(found | {"share_of_the_cpus_that_others_used": round(others, 3)}))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
