"""Requests made from the service's own OpenAPI document, right and wrong ones; every answer is checked against it.

    python -m loadtest.fuzz [--url URL] [--cases 20000] [--seed 0]

Runs schemathesis in rounds, each with a seed of its own, until there were so many cases: no answer may be a 5xx, be
missing from the document or differ from its schema, no valid request may be refused, no invalid one accepted. Exit
code 1, and what schemathesis says of it, if one is. Not checked: that what was deleted is gone, since DELETE cancels
and the Result stays. That a Result has expired (410) is no refusal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import Progress

from loadtest import target

EXAMPLES = 50
"""Of each operation in one round."""
FIRST_PHASES, LATER_PHASES = "examples,coverage,fuzzing,stateful", "fuzzing,stateful"
"""The first two do not depend on the seed."""
ANSWER_S = 60  # a call may wait in the queue behind a whole batch
ROUND_S = 1200

console = Console()


def document(url: str) -> dict[str, Any]:
    """Return the service's document with what it does not say: which image is served."""
    found: dict[str, Any] = httpx.get(f"{url}/openapi.json", trust_env=False).raise_for_status().json()
    found["components"]["schemas"]["Call"]["properties"]["image"] = {"enum": [None, "default"]}
    return found


def prepare(url: str, folder: str) -> Path:
    """Write the document and schemathesis' own configuration to `folder`; return the place of the document."""
    hooks = Path(__file__).with_name("fuzz_hooks.py")
    Path(folder, "schemathesis.toml").write_text(
        f'hooks = "{hooks}"\n'
        '[checks]\npositive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "410", "429"]\n'
    )
    schema = Path(folder, "openapi.json")
    schema.write_text(json.dumps(document(url)))
    return schema


def run_round(url: str, schema: Path, seed: int, phases: str, examples: int = EXAMPLES) -> tuple[int, str]:
    """Run one round; return the number of its cases and, if one failed, what schemathesis says."""
    report = schema.with_name(f"report-{seed}.json")
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(schema), "--url", url, "--seed", str(seed)]
    command += ["--checks", "all", "--exclude-checks", "use_after_free", "--phases", phases, "-n", str(examples)]
    command += ["--continue-on-failure", "--no-shrink", "--no-color", "--warnings", "off"]
    command += ["--request-timeout", str(ANSWER_S), "--max-response-time", str(ANSWER_S)]
    command += ["--suppress-health-check", "too_slow"]  # it tells of this machine's load, not of the service
    command += ["--report", "json", "--report-json-path", str(report)]
    done = subprocess.run(command, cwd=schema.parent, capture_output=True, text=True, timeout=ROUND_S)
    if not report.exists():
        raise RuntimeError(f"schemathesis did not run: {done.stderr[-2000:]}")
    cases: int = json.loads(report.read_text())["test_cases"]["generated"]
    return cases, "" if done.returncode == 0 else done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target.add_option(parser)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    cases, seed, failed = 0, options.seed, 0
    with target.service(options.url) as url, tempfile.TemporaryDirectory() as folder, Progress(console=console) as bar:
        schema = prepare(url, folder)
        task = bar.add_task(f"at least {options.cases} cases", total=options.cases)
        while cases < options.cases:
            made, complaint = run_round(url, schema, seed, LATER_PHASES if cases else FIRST_PHASES)
            if complaint:
                failed += 1
                console.print(f"seed {seed}:\n{complaint}", markup=False)
            cases, seed = cases + made, seed + 1
            bar.update(task, completed=cases)
    console.print(f"{cases} cases in {seed - options.seed} rounds; {failed} rounds with failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
