"""Workloads: calls as a model writes them, each with what must become of it. Reads files, runs nothing.

A workload is a folder of small Python files, `workloads/<workload>/<topic>/<name>.py`. A file starts with a header of
`# key: value` lines; after the first empty line comes the code that is sent.

    # status: failed            what must become of it (`Status`); the only line every file has
    # exit_code: 3
    # signal: SIGSEGV
    # limit: wall
    # truncated: stdout         the stream is longer than the soft cap
    # limits: wall_s=1 cpu_s=1  limits of the call
    # stdin: 3 4                one line of its input (the line may be repeated)
    # fetch: plot.png           a file to return, which must then be there
    # last_error: NameError: name 'x' is not defined       the last line of stderr
    # stdout: 42                one line of the exact output (repeated for more lines)
    # stdout_sha256: 6e34...    for outputs too long to read: of the UTF-8 of what is returned
    # stdout_varies: pid        why the output is not checked

Without any of the last three lines stdout must be empty. `record.py` writes them, from real runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sandbox_service.models import Call, Limits, Result, Status

ROOT = Path(__file__).resolve().parent
HUMANEVAL = ROOT.parent.parent / "shared" / "data" / "humaneval.jsonl"

Header = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Expected:
    """What must become of a call; None means that it is not checked."""

    status: Status
    exit_code: int | None = None
    signal: str | None = None
    limit: str | None = None
    truncated: bool = False
    last_error: str | None = None
    stdout: str | None = None
    stdout_sha256: str | None = None
    files: frozenset[str] = frozenset()

    def mismatches(self, result: Result) -> Iterator[str]:
        """Yield a sentence for each thing that is not as expected."""
        if result.status != self.status:
            end = result.message or result.stderr[-300:]
            yield f"status is {result.status.value}, expected {self.status.value}; {end!r}"
        for name in ("exit_code", "signal", "limit"):
            expected, got = getattr(self, name), getattr(result, name)
            if expected is not None and got != expected:
                yield f"{name} is {got}, expected {expected}"
        if result.truncated.stdout != self.truncated:
            yield f"truncated.stdout is {result.truncated.stdout}"
        if self.last_error is not None and result.stderr.strip().rpartition("\n")[2] != self.last_error:
            yield f"stderr ends with {result.stderr[-200:]!r}, expected {self.last_error!r}"
        if self.stdout is not None and result.stdout != self.stdout:
            yield f"stdout is {result.stdout[:500]!r}, expected {self.stdout[:500]!r}"
        if self.stdout_sha256 is not None and sha256(result.stdout) != self.stdout_sha256:
            yield f"stdout ({len(result.stdout)} characters) has another hash: {result.stdout[:200]!r}"
        if missing := self.files - set(result.files):
            yield f"files {sorted(missing)} were not returned"


@dataclass(frozen=True, slots=True)
class WorkloadCall:
    name: str
    call: Call
    expected: Expected


def load(name: str) -> list[WorkloadCall]:
    """Return the calls of `workloads/<name>`, in the order of their names."""
    folder = ROOT / "workloads" / name
    return [read(path, path.relative_to(folder).with_suffix("").as_posix()) for path in sorted(folder.rglob("*.py"))]


def read(path: Path, name: str) -> WorkloadCall:
    """Read one file; ValueError names it if its header is wrong."""
    header, code = split(path.read_text())
    try:
        return WorkloadCall(name, _call(header, code), _expected(header))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: wrong header: {error}") from error


def split(text: str) -> tuple[Header, str]:
    """Split a file into its header and its code."""
    head, _, code = text.partition("\n\n")
    header: Header = {}
    for line in head.splitlines():
        key, colon, value = line.removeprefix("# ").partition(":")
        if not line.startswith("# ") or not colon:
            raise ValueError(f"{line!r} is not a `# key: value` line")
        header.setdefault(key, []).append(value.removeprefix(" "))
    return header, code


def humaneval(path: Path | None = None, *, body: Literal["canonical", "pass"] = "canonical") -> list[WorkloadCall]:
    """Return HumanEval's 164 problems as calls: prompt, body, test and the line that checks the entry point.

    With the canonical bodies all must be `ok`; with `pass` for a body all must be `failed`.
    """
    rows = [json.loads(line) for line in humaneval_path(path).read_text().splitlines()]
    expected = Expected(Status.OK if body == "canonical" else Status.FAILED)
    return [WorkloadCall(row["task_id"], Call(code=_program(row, body)), expected) for row in rows]


def humaneval_path(path: Path | None = None) -> Path:
    """Where HumanEval is: as given, else what the variable HUMANEVAL says, else beside the checkout."""
    return path or Path(os.environ.get("HUMANEVAL", HUMANEVAL))


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _program(row: dict[str, str], body: Literal["canonical", "pass"]) -> str:
    solution = row["canonical_solution"] if body == "canonical" else "    pass\n"
    return f"{row['prompt']}{solution}\n{row['test']}\ncheck({row['entry_point']})\n"


_CALL_KEYS = {"limits", "stdin", "fetch"}
_EXPECTED_KEYS = {"status", "exit_code", "signal", "limit", "truncated", "last_error"}
_STDOUT_KEYS = {"stdout", "stdout_sha256", "stdout_varies"}


def _call(header: Header, code: str) -> Call:
    if unknown := set(header) - _CALL_KEYS - _EXPECTED_KEYS - _STDOUT_KEYS:
        raise ValueError(f"unknown keys {sorted(unknown)}")
    limits = dict(pair.split("=") for pair in " ".join(header.get("limits", [])).split())
    return Call(
        code=code,
        stdin="".join(f"{line}\n" for line in header.get("stdin", [])),
        limits=Limits.model_validate(limits),
        fetch=header.get("fetch", []),
    )


def _expected(header: Header) -> Expected:
    if len(_STDOUT_KEYS & set(header)) > 1:
        raise ValueError("more than one way to check stdout")
    checked = not {"stdout_sha256", "stdout_varies"} & set(header)
    return Expected(
        status=Status(header["status"][0]),
        exit_code=int(header["exit_code"][0]) if "exit_code" in header else None,
        signal=_only(header, "signal"),
        limit=_only(header, "limit"),
        truncated=_only(header, "truncated") == "stdout",
        last_error=_only(header, "last_error"),
        stdout="".join(f"{line}\n" for line in header.get("stdout", [])) if checked else None,
        stdout_sha256=_only(header, "stdout_sha256"),
        files=frozenset(header.get("fetch", [])),
    )


def _only(header: Header, key: str) -> str | None:
    return header[key][0] if key in header else None
