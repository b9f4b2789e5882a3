"""Run a workload in a plain interpreter, one cold process per call: check the expectations, or write them down.

    python -m loadtest.record --python PATH [--write] [--only PART_OF_NAME]

PATH is an interpreter that has the packages of the default image. `--write` puts what stdout and the end of stderr
are into the headers; a status is written by hand and only checked. Calls that need the sandbox's own limits (memory,
output) are left out: nothing but a sandbox can run them.
"""

from __future__ import annotations

import argparse
import codecs
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from loadtest.workload import ROOT, Expected, Header, WorkloadCall, load, sha256, split
from sandbox_service.models import Result, Status, Truncated

NEEDS_SANDBOX = {Status.OUT_OF_MEMORY, Status.OUTPUT_LIMIT}
SOFT_CAP_KB = 64
READABLE = 4096
"""Outputs longer than this are recorded by their hash."""


def run_cold(python: Path, workload_call: WorkloadCall) -> Result:
    """Run one call in a new process and describe its end as the service would."""
    call = workload_call.call
    wall_s, cpu_s = call.limits.wall_s or 60.0, int(call.limits.cpu_s or 60)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "main.py").write_text(call.code)
        process = subprocess.Popen(
            [python, "-I", "main.py"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1)),
        )
        try:
            out, err = process.communicate(call.stdin.encode(), timeout=wall_s)
            timed_out = False
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            timed_out = True
        files = {name: "" for name in call.fetch if Path(folder, name).exists()}
    soft_cap = 1024 * (call.limits.output_kb or SOFT_CAP_KB)
    return _result(process.returncode, timed_out, out, err, files, soft_cap)


def _result(code: int, timed_out: bool, out: bytes, err: bytes, files: dict[str, str], soft_cap: int) -> Result:
    name = signal.Signals(-code).name if code < 0 else None
    by_cpu = name == "SIGXCPU"
    if timed_out or by_cpu:
        status, name = Status.TIMED_OUT, None
    else:
        status = Status.SIGNALED if name else Status.FAILED if code else Status.OK
    return Result(
        id="cold",
        status=status,
        exit_code=None if code < 0 else code,
        signal=name,
        limit="wall" if timed_out else "cpu" if by_cpu else None,
        stdout=codecs.utf_8_decode(out[:soft_cap], "replace", len(out) <= soft_cap)[0],
        stderr=err.decode(errors="replace"),
        truncated=Truncated(stdout=len(out) > soft_cap),
        files=files,
    )


def write(path: Path, result: Result) -> None:
    """Replace what the header says of stdout, the end of stderr and truncation by what happened."""
    header, code = split(path.read_text())
    varies = "stdout_varies" in header
    for key in ("truncated", "last_error", "stdout", "stdout_sha256"):
        header.pop(key, None)
    if result.truncated.stdout:
        header["truncated"] = ["stdout"]
    if result.status is Status.FAILED and result.stderr.strip():
        header["last_error"] = [result.stderr.strip().rpartition("\n")[2]]
    if not varies:
        header |= _recorded(result.stdout)
    lines = [f"# {key}: {value}".rstrip() for key, values in header.items() for value in values]
    path.write_text("\n".join(lines) + "\n\n" + code)


def _recorded(stdout: str) -> Header:
    lines = stdout.split("\n")
    readable = len(stdout) <= READABLE and lines[-1] == "" and all(line == line.rstrip() for line in lines)
    if readable and "\r" not in stdout:
        return {"stdout": lines[:-1]} if stdout else {}
    return {"stdout_sha256": [sha256(stdout)]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, required=True)
    parser.add_argument("--workload", default="toolcalls")
    parser.add_argument("--only", default="")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    wrong = 0
    for item in load(options.workload):
        if options.only not in item.name or item.expected.status in NEEDS_SANDBOX:
            continue
        result = run_cold(options.python, item)
        expected = Expected(item.expected.status, truncated=result.truncated.stdout) if options.write else item.expected
        for sentence in expected.mismatches(result):
            wrong += 1
            print(f"{item.name}: {sentence}")
        if options.write:
            write(ROOT / "workloads" / options.workload / f"{item.name}.py", result)
    print(f"{wrong} mismatches")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
