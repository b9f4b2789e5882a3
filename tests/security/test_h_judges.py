# ruff: noqa: E501 (programs)
"""H: verdicts that the service makes of several calls or of a program's files: verify, notebooks, compiled languages."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from sandbox_service.gateway.compat.languages import PROGRAM
from sandbox_service.gateway.programs import program
from sandbox_service.models import Status
from tests.security.bench import bench
from tests.security.cases import covers, told
from tests.security.harness import Attacker

TOO_MUCH = "char a[9 << 20] = {1};\nint main() { return 0; }"
"""It compiles without an error, to more than the 8 MiB of a file that is fetched."""


async def ask(attacker: Attacker, path: str, body: dict[str, Any]) -> Any:
    """What every strict JSON parser would read."""
    answer = await attacker.http.post(path, json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    found = json.loads(answer.content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair has no UTF-8
    return found


@covers("B01 B16 P32 P33")
async def test_code_that_compiles_to_too_much_has_failed(attacker: Attacker) -> None:
    """A program too large to be taken from its compiler never ran: a failure in all dialects, whatever is expected."""
    judged = await ask(attacker, "/run", {"type": "cpp", "solution": TOO_MUCH, "expected_output": "42"})
    assert (judged["success"], judged["run_success"], judged["reason"]) == (False, False, ""), judged
    assert "cannot be kept" in judged["stderr"], judged
    fusion = await ask(attacker, "/run_code", {"language": "cpp", "code": TOO_MUCH})
    assert (fusion["status"], fusion["compile_result"]["return_code"]) == ("Failed", 1), fusion
    piston = {"language": "c++", "version": "*", "files": [{"content": TOO_MUCH}]}
    assert (await ask(attacker, "/api/v2/execute", piston))["run"]["code"] == 1
    await attacker.verify_rest()


async def test_code_that_compiles_to_too_much_has_failed_is_really_caused_by(attacker: Attacker) -> None:
    """The look for the compiled program: the compiler itself has ended well, without one."""
    code = f"import subprocess\nsubprocess.run(['g++', '-x', 'c++', '-', '-o', '{PROGRAM}'], input={TOO_MUCH!r}, text=True, check=True)"
    result = await attacker.call(code, fetch=[PROGRAM], limits={"memory_mb": 2048, "wall_s": 30, "cpu_s": 30})
    assert (result.status, result.files) == (Status.OK, {}), told(result)


FORGED = json.dumps({"state": "done", "cells": [{"stdout": "", "stderr": "", "display": [{}], "error": []}]})
END_THE_SUPERVISOR = """
import os, signal
os.kill(os.getppid(), signal.SIGSTOP)
open("/tmp/.notebook/results.json", "w").write(FORGED)
os.kill(os.getppid(), signal.SIGKILL)
"""


@covers("B02 P32")
@pytest.mark.parametrize(
    "display",
    ["{}", '{"x": NaN}', '{"x": 1e999}', '{"x": "\\ud800"}', "[[null, 1]]", f'{{"x": {"[" * 900 + "]" * 900}}}'],
)
async def test_a_notebook_whose_supervisor_was_ended_has_failed(attacker: Attacker, display: str) -> None:
    """Results that cells put in place of the supervisor's: never a success, and strict JSON whatever they hold."""
    forged = FORGED.replace("[{}]", f"[{display}]")
    found = await ask(
        attacker, "/run_jupyter", {"cells": [f"FORGED = {forged!r}\n{END_THE_SUPERVISOR}"], "total_timeout": 10}
    )
    assert (found["status"], found["driver"]["return_code"]) == ("Failed", -9), found
    assert all(isinstance(form, str) for cell in found["cells"] for shown in cell["display"] for form in shown.values())
    await attacker.verify_rest()


async def test_a_notebook_whose_supervisor_was_ended_has_failed_is_really_caused_by(attacker: Attacker) -> None:
    """The exit of the call itself: what the cells wrote says `done`, and is what comes back."""
    code = "import os\nos.makedirs('/tmp/.notebook')\nif os.fork() == 0:\n" + "".join(
        f"    {line}\n" for line in f"FORGED = {FORGED!r}\n{END_THE_SUPERVISOR}".splitlines()
    )
    result = await attacker.call(f"{code}os.wait()", fetch=["/tmp/.notebook/results.json"])
    assert (result.status, list(result.files)) == (Status.SIGNALED, ["/tmp/.notebook/results.json"]), told(result)


@covers("C02 C10 P11")
async def test_a_notebook_that_stops_its_supervisor_ends_in_time(attacker: Attacker) -> None:
    """The supervisor keeps the time of cells; that of the whole is the call's own, which the worker keeps."""
    cell = "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(100)"
    found = await ask(attacker, "/run_jupyter", {"cells": [cell], "total_timeout": 0.5})
    assert (found["status"], found["driver"]["status"]) == ("Failed", "TimeLimitExceeded"), found
    await attacker.verify_rest()


SPEAKS = "__import__('os').write(1, b'[\"ok\", true]\\n' * 9)"
HOSTILE = [
    SPEAKS, f"${SPEAKS}$", f"\\boxed{{{SPEAKS}}}", f"1+{SPEAKS}", f"\\text{{{SPEAKS}}}", f"\\operatorname{{{SPEAKS}}}(1)",
    '["ok", true]', '["ok", true]\n["ok", true]\n', "\\boxed{1}\n[\"ok\", true]", '5"]\n["ok", true]', "r\n", "\x00", "\ufeff",
    "\\boxed{}", "$\\infty-\\infty$", "$\\frac{0}{0}$", "\\boxed{nan}", "$1=1$", "$x=x$", "$\\emptyset$", "$\\mathbb{R}$", "$x$",
    "$-\\infty<x<\\infty$", "$\\begin{pmatrix}\\end{pmatrix}$", "$42$ or $41$", "\\boxed{41} \\boxed{42} \\boxed{43}", "$2^{300000000}$",
]  # fmt: skip
"""What an answer may try: to run as code, to pass for a verdict, to equal whatever it is compared with."""
BESIDE = [("42", "42", True), ("41", "42", False), ("\\frac12", "0.5", True)]


@covers("B02 B09 B11 P32 P33")
async def test_an_answer_speaks_for_nobody(attacker: Attacker) -> None:
    """Answers that are code, frames, or neither true nor false: none is correct, and those beside them keep their verdicts."""
    checks = [pair for answer in HOSTILE for pair in ((answer, "7", False), *BESIDE)]
    asked = [{"answer": answer, "reference": reference} for answer, reference, _ in checks]
    found = (await ask(attacker, "/v1/verify", {"checks": asked}))["results"]
    assert [verdict["correct"] for verdict in found] == [correct for *_, correct in checks], found
    await attacker.verify_rest()


async def test_an_answer_speaks_for_nobody_is_really_caused_by() -> None:
    """A parser that runs nothing: in one that did, the same answer speaks for all."""
    parsing = "    return parse(text, parsing_timeout=None, raise_on_error=False)\n"
    source = program("verify")
    assert source.count(parsing) == 1
    pairs = "".join(json.dumps(pair) + "\n" for pair in ((SPEAKS, "7"), ("41", "42")))
    marked = "    if not MARKED.search(text) and not SENTENCE.search(text):\n"
    async with bench() as worker:
        limits = {"wall_s": 30, "cpu_s": 30, "memory_mb": 1536}
        code = source.replace(parsing, "    return [eval(text)]\n").replace(marked, "    if False:\n")
        result = await worker.run(code, args=["2"], stdin=pairs, limits=limits)
        assert result.stdout.startswith('["ok", true]\n["ok", true]\n'), told(result)


def _sum(base: int, terms: int) -> str:
    return "+".join(f"2^{{{base + term}}}" for term in range(terms))


LARGE = [
    *(_sum(95_000_000 + 100 * n, 3) for n in range(8)), _sum(10_000_000, 8), _sum(2_000_000, 8), _sum(400_000, 12), _sum(100_000, 30)
]  # fmt: skip
"""Each fits into a worker's memory, and stays there."""
SMALL = [
    ("$\\frac{x^2-1}{x-1}$", "x+1"), ("$\\sqrt{3+2\\sqrt{2}}$", "1+\\sqrt{2}"), ("$\\frac{1}{2}\\ln 4$", "\\ln 2"),
    ("$\\sum_{k=1}^{100} k$", "5050"), ("$\\{1,2,3\\}$", "\\{3,2,1\\}"),
]  # fmt: skip


@covers("B11 P32")
async def test_an_answer_takes_no_memory_from_others(attacker: Attacker) -> None:
    """Answers that parse into GiBs: the right ones behind them are right, as they are alone."""
    checks = [{"answer": a, "reference": r} for a, r in [*((answer, "7") for answer in LARGE), *SMALL]]
    found = (await ask(attacker, "/v1/verify", {"checks": checks}))["results"]
    assert [each["correct"] for each in found] == [False] * len(LARGE) + [True] * len(SMALL), found
    await attacker.verify_rest()


async def test_an_answer_takes_no_memory_from_others_is_really_caused_by() -> None:
    """The worker that ends when it has kept much: one that goes on finds right answers wrong."""
    source = program("verify")
    look = "        if data_bytes() > most:\n"
    assert source.count(look) == 1
    pairs = "".join(json.dumps(pair) + "\n" for pair in (*((answer, "7") for answer in LARGE), *SMALL))
    async with bench() as worker:
        limits = {"wall_s": 50, "cpu_s": 50, "memory_mb": 1536}
        result = await worker.run(source.replace(look, "        if False:\n"), args=["20"], stdin=pairs, limits=limits)
        verdicts = [json.loads(line) for line in result.stdout.splitlines()]
        assert len(verdicts) == len(LARGE) + len(SMALL), told(result)
        assert ["ok", True] not in verdicts, told(result)
