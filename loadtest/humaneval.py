"""HumanEval through the service: each program with its solution must be `ok`, and with `pass` for a body `failed`.

    python -m loadtest.humaneval [--url URL] [--data humaneval.jsonl]

Shows progress and a table; exit code 1 if a single program ends in another way, 2 if the data is not there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtest import target
from loadtest.workload import WorkloadCall, humaneval, humaneval_path
from sandbox_service.client import SandboxClient

console = Console()


def run(client: SandboxClient, title: str, calls: list[WorkloadCall], table: Table) -> list[str]:
    """Run all programs as one batch; add a row to the table, return what was not as expected."""
    begun, statuses, wrong = time.monotonic(), Counter[str](), []
    stream = client.map([item.call for item in calls])
    for index, result in track(stream, description=f"{title:9}", total=len(calls), console=console):
        statuses[result.status.value] += 1
        wrong += [f"{calls[index].name}: {sentence}" for sentence in calls[index].expected.mismatches(result)]
    took_s = time.monotonic() - begun
    shown = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    table.add_row(title, str(len(calls)), calls[0].expected.status.value, shown, str(len(wrong)), f"{took_s:.2f} s")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target.add_option(parser)
    parser.add_argument("--data", type=Path, help="HumanEval's file (also: the variable HUMANEVAL)")
    options = parser.parse_args()
    data = humaneval_path(options.data)
    if not data.exists():
        console.print(f"HumanEval is not at {data}: give its place with --data FILE or HUMANEVAL=FILE")
        return 2
    table = Table("bodies", "programs", "expected", "got", "wrong", "time", title="HumanEval")
    with target.service(options.url) as url, SandboxClient(url) as client:
        wrong = run(client, "canonical", humaneval(data), table)
        wrong += run(client, "pass", humaneval(data, body="pass"), table)
    console.print(table)
    for sentence in wrong:
        console.print(sentence, markup=False)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
