"""What is sent: workloads as ready request bodies, each with what has to come back.

print numpy sympy     one small program, again and again
empty numpy/sympy     `print(1)` in the image that numpy's and sympy's programs run in
toolcalls             the programs of loadtest/workloads/toolcalls: long code, floods and time-outs among them
tools                 those of them that end by themselves (`ok` or `failed`)
math                  seven times print, twice numpy, once sympy
blend                 two thirds math, a quarter programs of over 2 KB, 5 % with 64 KB of output, 5 % that time out;
                      few of them use much time, so that 45,000 take minutes
humaneval             HumanEval's programs with their solutions
FILE.jsonl            a recorded log, one Call a line (`recorder.py` writes one, of any client)
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from loadtest import workload
from sandbox_service.models import Call, Limits, Status

SMALL = {
    "print": ("print(1)", "1\n"),
    "numpy": ("import numpy as np\nprint(int(np.arange(10).sum()))", "45\n"),
    "sympy": ("from sympy import solve, symbols\nx = symbols('x')\nprint(solve(x**2 - 5*x + 6, x))", "[2, 3]\n"),
}
EMPTY = {f"empty {case}": (f"import {case}\nprint(1)", "1\n") for case in ("numpy", "sympy")}

MATH = {"print": 7, "numpy": 2, "sympy": 1}
BLEND = {"math": 0.65, "long": 0.25, "flood": 0.05, "endless": 0.05}
USUAL, USUAL_AT_ONCE = "math", "blend"
_LONG = (
    "combinatorics/derive_recurrence_tilings",
    "combinatorics/sudoku_solver",
    "geometry/spiral_similarity_verify",
    "numbers/quadratic_forms_class_number",
    "strings/tokenizer_calculator",
)
"""Programs of `toolcalls` that have over 2 KB and are done after some milliseconds."""
_FLOOD = "import random\nprint(''.join(random.Random({seed}).choices('0123456789abcdef', k={letters})))"
_FLOOD_LETTERS = (64 << 10) - 1
_ENDLESS = ("while True:\n    pass", "import time\ntime.sleep(60)")
_ENDLESS_S = 0.25


@dataclass(frozen=True, slots=True)
class Shot:
    """One call as it is sent, and what its Result has to be; None is not checked."""

    body: bytes
    status: str | None
    stdout_sha256: str | None

    def fault(self, result: Mapping[str, Any]) -> str | None:
        """Say what is wrong with a Result, in one sentence."""
        if self.status is not None and result["status"] != self.status:
            return f"{result['status']} instead of {self.status}: {result['message'] or result['stderr'][-300:]!r}"
        if self.stdout_sha256 is not None and workload.sha256(result["stdout"]) != self.stdout_sha256:
            return f"wrong output: {result['stdout'][:200]!r}"
        return None


def shots(name: str, count: int, seed: int = 0) -> list[Shot]:
    """Return `count` calls of a workload, in an order that depends on the seed alone."""
    if known := (SMALL | EMPTY).get(name):
        code, stdout = known
        shot = _shot(Call(code=code), workload.Expected(Status.OK, stdout=stdout))
        return [shot] * count
    if name.endswith(".jsonl"):
        return recorded(Path(name))[0]
    draw = random.Random(seed)  # noqa: S311  (an order, not a secret)
    if name == "math":
        return draw.choices(_kinds_of_math(), k=count)
    if name == "blend":
        kinds = _kinds_of_blend()
        return [draw.choice(kinds[kind]) for kind in draw.choices(list(BLEND), list(BLEND.values()), k=count)]
    if name == "humaneval":
        items = workload.humaneval()
    else:
        items = workload.load("toolcalls")
        if name == "tools":
            items = [item for item in items if item.expected.status in (Status.OK, Status.FAILED)]
    kinds = [_shot(item.call, item.expected) for item in items]
    chosen = [kinds[number % len(kinds)] for number in range(count)]
    draw.shuffle(chosen)
    return chosen


def _kinds_of_math() -> list[Shot]:
    """Each as often as it is to be drawn."""
    return [shot for case, weight in MATH.items() for shot in shots(case, weight)]


@cache
def _kinds_of_blend() -> dict[str, list[Shot]]:
    known = {item.name: item for item in workload.load("toolcalls")}
    floods = []
    for number in range(16):
        text = "".join(random.Random(number).choices("0123456789abcdef", k=_FLOOD_LETTERS))  # noqa: S311
        code = _FLOOD.format(seed=number, letters=_FLOOD_LETTERS)
        floods.append(_shot(Call(code=code), workload.Expected(Status.OK, stdout=f"{text}\n")))
    limits = Limits(wall_s=_ENDLESS_S)
    endless = [_shot(Call(code=code, limits=limits), workload.Expected(Status.TIMED_OUT)) for code in _ENDLESS]
    return {
        "math": _kinds_of_math(),
        "long": [_shot(known[name].call, known[name].expected) for name in _LONG],
        "flood": floods,
        "endless": endless,
    }


def _shot(call: Call, expected: workload.Expected) -> Shot:
    sha256 = expected.stdout_sha256
    if expected.stdout is not None:
        sha256 = workload.sha256(expected.stdout)
    return Shot(call.model_dump_json(exclude_defaults=True).encode(), expected.status.value, sha256)


def recorded(path: Path) -> tuple[list[Shot], list[float] | None]:
    """Read a log: its calls, and when each was sent, in seconds after the first one, if the log says it.

    A line is a Call, or {"call": ..., "at": seconds, "result": ...}; a result is what has to come back again.
    """
    calls, times = [], []
    for line in path.read_text().splitlines():
        if not line.strip():
            continue
        entry = json.loads(line)
        call, result = entry.get("call", entry), entry.get("result")
        if "at" in entry:
            times.append(entry["at"])
        call.pop("id", None)  # it names the recorded call, and the service would return that one's Result
        body = Call.model_validate(call).model_dump_json(exclude_defaults=True).encode()
        if result is None:
            calls.append(Shot(body, None, None))
        else:
            whole = not any(result["truncated"].values())
            calls.append(Shot(body, result["status"], workload.sha256(result["stdout"]) if whole else None))
    if not calls:
        raise ValueError(f"{path} holds no calls")
    return calls, [at - min(times) for at in times] if len(times) == len(calls) else None
