"""The same program gets the same verdict on any slot of any worker, idle or loaded (R9, L22).

    python -m tests.chaos.verdicts [--rounds 3] [--data humaneval.jsonl]

HumanEval's programs, each with its solution and with a body that fails: in turn on an idle service, then all at once
with as many spinning processes beside them as there are CPUs. Every run of a program has to end alike: status, exit
code, signal, what it wrote to stdout. Exit code 1 if one does not, 2 if the data is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from loadtest.workload import WorkloadCall, humaneval, humaneval_path
from sandbox_service.client import AsyncSandboxClient, Result
from tests.chaos.rig import SLOTS, Rig

_SPIN = [sys.executable, "-c", "while True: pass"]


@dataclass
class Verdicts:
    found: defaultdict[str, Counter[tuple[object, ...]]] = field(default_factory=lambda: defaultdict(Counter))
    workers: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, result: Result) -> None:
        self.found[name][result.status.value, result.exit_code, result.signal, result.stdout] += 1
        self.workers[str(result.worker)] += 1

    @property
    def differing(self) -> list[str]:
        return [f"{name}: {dict(ends)}" for name, ends in self.found.items() if len(ends) > 1]


async def measure(rig: Rig, programs: list[WorkloadCall], rounds: int) -> Verdicts:
    verdicts = Verdicts()
    async with AsyncSandboxClient(rig.urls[0]) as sdk:

        async def run_all(at_once: int) -> None:
            waiting = iter(programs * rounds)

            async def one_client() -> None:
                for each in waiting:
                    verdicts.add(each.name, await sdk.run(each.call))

            await asyncio.gather(*(one_client() for _ in range(at_once)))

        await run_all(1)
        spinning = [subprocess.Popen(_SPIN) for _ in os.sched_getaffinity(0)]
        try:
            await run_all(4 * SLOTS)
        finally:
            for process in spinning:
                process.kill()
                process.wait()
    return verdicts


async def main(data: Path, rounds: int) -> int:
    failing = [replace(each, name=f"{each.name}, failing") for each in humaneval(data, body="pass")]
    programs = humaneval(data) + failing
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)
        async with Rig(Path(folder)) as rig:
            verdicts = await measure(rig, programs, rounds)
    runs = verdicts.workers.total()
    print(f"{len(programs)} programs, {runs} runs on {len(verdicts.workers)} workers: {len(verdicts.differing)} differ")
    for sentence in verdicts.differing:
        print(sentence)
    return 1 if verdicts.differing else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="HumanEval's file (also: the variable HUMANEVAL)")
    options = parser.parse_args()
    path = humaneval_path(options.data)
    if not path.exists():
        print(f"HumanEval is not at {path}: give its place with --data FILE or HUMANEVAL=FILE", file=sys.stderr)
        sys.exit(2)
    sys.exit(asyncio.run(main(path, options.rounds)))
