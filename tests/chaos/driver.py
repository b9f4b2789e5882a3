"""Runs faults against a rig under the ledger's load, and makes a table of what came of it.

    python -m tests.chaos.driver [--only L01 L05] [--strikes N] [--out FILE.md]

For each fault: start sending, then strike, wait until the service answers again, strike again ...; let all calls end,
fetch every Result once more, compare with what the workers logged. Exit code 1 unless every fault kept the promises.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from loadtest.ledger import Ledger, Tally
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.rig import Rig, until
from tests.chaos.scene import Scene

CLIENTS = 24
RECOVERY_S = 60.0
QUIET_S = 90.0
_ANSWERS_BETWEEN = 40
console = Console(stderr=True)


@dataclass
class Row:
    """What came of one fault."""

    fault: Fault
    tally: Tally
    strikes: int
    hit: int
    took_s: float
    problems: list[str]
    remarks: list[str]

    def cells(self) -> list[str]:
        t = self.tally
        counts = [t.calls, self.strikes, self.hit, t.second_attempts, t.infra_errors, t.told_lost]
        zeros = ", ".join(str(len(each)) for each in (t.lost, t.duplicated, t.wrong, t.foreign))
        failed = " FAILED" * bool(self.problems)
        return [f"{self.fault.name} {self.fault.what}{failed}", *map(str, counts), zeros]


HEADINGS = [
    *("fault", "calls", "strikes", "calls hit", "second attempts", "`infra_error`", "told lost"),
    "lost, duplicated, wrong, foreign",
]


async def run_fault(fault: Fault, rig: Rig, *, strikes: int | None = None, clients: int = CLIENTS) -> Row:
    """Run one fault to its end. Its failures are in the row; none raises."""
    begun = time.monotonic()
    await rig.until_ready()
    ledger = Ledger(rig.urls, run=f"{fault.name}-{time.monotonic_ns():x}")
    scene = Scene(rig, ledger)
    sending = asyncio.create_task(ledger.send(clients))
    problems: list[str] = []
    hit = done = 0
    try:
        await _answers(ledger, sending)
        for _ in range(strikes or fault.strikes):
            hit += await fault.strike(scene)
            done += 1
            await _answers(ledger, sending)
    except Exception as error:
        problems.append(f"{type(error).__name__}: {error or traceback.format_exc(limit=-2)}")
    ledger.stop()
    await asyncio.wait([sending], timeout=QUIET_S)
    if not sending.done():
        problems.append(f"{ledger.in_flight} calls are not answered {QUIET_S:.0f} s after the last one was sent")
        sending.cancel()
        await asyncio.wait([sending])
    elif error := sending.exception():
        problems.append(f"the ledger failed: {error!r}")
    if not fault.loses_data:
        await ledger.confirm()
        ledger.audit(rig.worker_logs())
    tally = ledger.tally(scene.excused)
    problems += tally.failures + _bounds(fault, tally, hit)
    return Row(fault, tally, done, hit, time.monotonic() - begun, problems, scene.remarks)


async def _answers(ledger: Ledger, sending: asyncio.Task[None]) -> None:
    """Wait until the service is at work again: so many more calls are sent and answered."""
    goal = ledger.sent + _ANSWERS_BETWEEN
    await until(lambda: ledger.answered >= goal or sending.done(), RECOVERY_S, "the service answers again")
    if sending.done():
        await sending


def _bounds(fault: Fault, tally: Tally, hit: int) -> list[str]:
    """What the fault may cost: executions, and never more than it hit."""
    most = hit if fault.reruns else 0
    signaled = tally.statuses["signaled"]
    if fault.exact and tally.second_attempts + signaled != hit:
        return [f"{hit} programs were killed, {tally.second_attempts} calls ran again, {signaled} were told of it"]
    if fault.spares and tally.infra_errors:
        return [f"{tally.infra_errors} calls ended as infra_error"]
    if fault.loses_data or tally.repeated <= most:
        return []
    return [f"{tally.repeated} calls ran twice; the fault hit {most} at most"]


def table(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


async def run_all(faults: Sequence[Fault], *, strikes: int | None = None) -> list[Row]:
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        Path(folder).chmod(0o711)  # the jails' users have to reach what is below
        async with Rig(Path(folder)) as rig:
            for fault in faults:
                console.print(f"{fault.name} {fault.what} ...", end=" ", highlight=False)
                row = await run_fault(fault, rig, strikes=strikes)
                rows.append(row)
                console.print(f"{'FAILED' if row.problems else 'ok'} ({row.took_s:.0f} s)", highlight=False)
                for sentence in row.remarks + row.problems[:20]:
                    console.print(f"    {sentence}", highlight=False, markup=False)
                if row.problems:
                    keep_logs(rig, fault.name)
    return rows


def keep_logs(rig: Rig, name: str) -> None:
    """Copy what the parts logged to where it outlives the run."""
    target = Path(tempfile.gettempdir()) / f"chaos-logs-{name}"
    target.mkdir(exist_ok=True)
    for part in rig.parts:
        if part.log_path.exists():
            (target / part.log_path.name).write_bytes(part.log_path.read_bytes())
    console.print(f"    logs are in {target}", markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="names of faults, or their beginnings")
    parser.add_argument("--strikes", type=int, help="per fault, instead of each fault's own number")
    parser.add_argument("--out", type=Path, help="file to write the table to, as Markdown")
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.only or fault.name.startswith(tuple(options.only))]
    rows = asyncio.run(run_all(chosen, strikes=options.strikes))
    print(table(rows))
    if options.out:
        options.out.write_text(table(rows))
    return 1 if any(row.problems for row in rows) or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
