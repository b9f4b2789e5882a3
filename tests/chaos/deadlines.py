"""How long after its wall limit a program is dead, by its own last sign of life (R8).

    python -m tests.chaos.deadlines [calls]

Programs that would go on for ever, each with a wall limit of 0.2 s: alone or with children that have left its session,
deaf to every signal they can be deaf to, and one in eight computing. Each process notes the machine's monotonic clock
every 5 ms; from the first note of a program to the last one of any of its processes is how long it lived. Exit code 1
if one in a thousand lived for longer than its limit and 250 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from sandbox_service.client import AsyncSandboxClient, Call, Limits
from tests.chaos.rig import SLOTS, Rig

WALL_S = 0.2
LATE_S = 0.25
_DEAF = "import os, signal, time\nfor n in set(signal.valid_signals()) - {9, 19}: signal.signal(n, signal.SIG_IGN)\n"
_NOTE = "os.write(1, b'%.6f\\n' % time.monotonic())"
_TICKING = f"while True:\n    {_NOTE}\n    time.sleep(0.005)\n"
_COMPUTING = f"while True:\n    {_NOTE}\n    end = time.monotonic() + 0.005\n    while time.monotonic() < end: pass\n"
_WITH_CHILDREN = f"{_NOTE}\nfor _ in range(4):\n    if os.fork() == 0:\n        os.setsid()\n        break\n"
PROGRAMS = {
    "ticking": _DEAF + _TICKING,
    "with children": _DEAF + _WITH_CHILDREN + _TICKING,
    "computing": _DEAF + _COMPUTING,
}
_TURNS = ("ticking", "with children") * 3 + ("ticking", "computing")


@dataclass
class Lives:
    late_s: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in PROGRAMS})
    """How much longer than its limit each program lived."""
    others: list[str] = field(default_factory=list)
    """What did not end as it has to."""

    def quantile(self, share: float) -> float:
        every = sorted(late for each in self.late_s.values() for late in each)
        return every[min(len(every) - 1, int(share * len(every)))]

    def lines(self) -> str:
        most = {name: f"{len(late)} (at most {1000 * max(late):.0f} ms)" for name, late in self.late_s.items()}
        shares = ", ".join(f"p{100 * share:g} {1000 * self.quantile(share):.0f} ms" for share in (0.5, 0.99, 0.999))
        return f"after the limit of {WALL_S} s: {shares}\n" + ", ".join(f"{name} {told}" for name, told in most.items())


async def measure(rig: Rig, calls: int) -> Lives:
    lives = Lives()
    names = itertools.islice(itertools.cycle(_TURNS), calls)

    async def one_client(sdk: AsyncSandboxClient) -> None:
        for name in names:
            limits = Limits(wall_s=WALL_S, cpu_s=10, processes=16, output_kb=1024)
            result = await sdk.run(Call(code=PROGRAMS[name], limits=limits))
            if result.status.value != "timed_out" or result.limit != "wall":
                lives.others.append(f"{name}: {result.status.value}, {result.message or result.stderr[-200:]}")
                continue
            notes = [float(line) for line in result.stdout.split("\n")[:-1]]
            lives.late_s[name].append(max(notes) - min(notes) - WALL_S)

    async with AsyncSandboxClient(rig.urls[0]) as sdk:
        await asyncio.gather(*(one_client(sdk) for _ in range(2 * SLOTS)))
    return lives


async def main(calls: int) -> int:
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)
        async with Rig(Path(folder)) as rig:
            lives = await measure(rig, calls)
    print(lives.lines())
    for sentence in lives.others[:20]:
        print(sentence)
    return 1 if lives.others or lives.quantile(0.999) > LATE_S else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=int, nargs="?", default=4000)
    sys.exit(asyncio.run(main(parser.parse_args().calls)))
