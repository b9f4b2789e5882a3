"""What the filter of each call costs: the same calls with and without it, in turn, in one run.

    python -m tests.security.cost [--rounds 10] [--calls 100]

Two workers' cores, one of them without the filter (tests/security/bench.py), take turns. Printed for each program are
the medians, over all calls, of the CPU time that the call's own group has used, and their ratio: the filter is
installed and asked in there and nowhere else, so that the ratio for the whole service is nearer to 1.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics

from sandbox_service.models import Status
from tests.security.bench import Bench, bench
from tests.security.mutations import NO_CALL_FILTER

PROGRAMS = {
    "print(1)": "print(1)",
    "1,000 small reads": "for _ in range(1000):\n    with open('/proc/self/stat') as file: file.read()",
    "numpy": "import numpy as np\nprint(np.linalg.eigvals(np.eye(20)).sum())",
}


async def measure(worker: Bench, code: str, calls: int) -> list[float]:
    """CPU milliseconds of each call."""
    results = [await worker.run(code) for _ in range(calls)]
    assert all(result.status is Status.OK for result in results), results
    return [1000 * result.usage.cpu_s for result in results if result.usage is not None]


async def compare(rounds: int, calls: int) -> None:
    async with bench() as whole, bench(NO_CALL_FILTER) as without:
        for name, code in PROGRAMS.items():
            times: dict[Bench, list[float]] = {whole: [], without: []}
            for number in range(rounds):
                for worker in (whole, without) if number % 2 else (without, whole):
                    times[worker] += await measure(worker, code, calls)
            first, second = (statistics.median(taken) for taken in times.values())
            print(f"{name}: {first:.2f} ms with, {second:.2f} ms without: ratio {first / second:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=20, help="of each program, in each round")
    options = parser.parse_args()
    asyncio.run(compare(options.rounds, options.calls))


if __name__ == "__main__":
    main()
