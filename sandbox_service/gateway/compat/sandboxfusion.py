"""The SandboxFusion dialect: `/run_code`, `/run_jupyter`, `/v1/ping`, `/`.

Every verdict is HTTP 200. `SandboxError`, which the SDK tries again, is kept for what its server calls so: a language
that is not here, and files that cannot be placed. A lack of time or a fault of ours is 504, which verl tries again.
Time limits count from the start of the program, not from the request's arrival. Details beyond the original are in keys
of their own (`cpu_time`, `memory_peak_mb`, `oom_killed`, `truncated`), which its clients ignore.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import posixpath
import signal
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from sandbox_service.errors import InvalidCall
from sandbox_service.gateway.body import has_too_many_values
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.compat.dialect import Asked
from sandbox_service.gateway.compat.holding import run_held
from sandbox_service.gateway.compat.languages import NO_PROGRAM, Language, compiled_program, make_call
from sandbox_service.gateway.programs import program
from sandbox_service.models import Limits, Result, Status

CLIENT_MARGIN_S = 10.0
"""Its clients wait for the time limits they send and this much more."""
ANSWER_S = 1.0
"""What an answer needs to reach them before they leave."""
OUTPUT_KB = 1024
CELL_OUTPUT = "/tmp/.notebook"  # noqa: S108 (a slot's own /tmp)
CELLS, RESULTS = f"{CELL_OUTPUT}/cells.py", f"{CELL_OUTPUT}/results.json"
_MOST = 1 << 20
"""Of any limit: lowered to what the deployment allows."""
_LEAST_S = 0.001
_IGNORED = "IGNORE_THIS_FILE"

LanguageName = Literal[
    "python", "cpp", "nodejs", "go", "go_test", "java", "php", "csharp", "bash", "typescript", "sql", "rust", "cuda",
    "lua", "R", "perl", "D_ut", "ruby", "scala", "julia", "pytest", "junit", "kotlin_script", "jest", "verilog",
    "python_gpu", "lean", "swift", "racket", "python2", "gtest", "react",
]  # fmt: skip

Answer = dict[str, Any]


class RunCode(Asked):
    code: str
    language: LanguageName = "python"
    compile_timeout: float = 10
    run_timeout: float = 10
    memory_limit_MB: int = -1
    stdin: str | None = None
    files: dict[str, str | None] = Field(default_factory=dict)
    fetch_files: list[str] = Field(default_factory=list)


class RunJupyter(Asked):
    cells: list[str]
    cell_timeout: float = 0
    total_timeout: float = 45
    memory_limit_MB: int = -1
    kernel: str = "python3"
    files: dict[str, str | None] = Field(default_factory=dict)
    fetch_files: list[str] = Field(default_factory=list)


class SandboxFusion:
    """The work behind the routes: (tenant, request, when it arrived) to the answer. OutOfTime: no verdict in time."""

    def __init__(self, calls: Calls, languages: Mapping[str, Language]) -> None:
        self._calls = calls
        self._languages = languages

    async def run_code(self, tenant: str, asked: RunCode, arrived: float) -> Answer:
        language = self._languages.get(asked.language)
        if language is None:
            return _error(f"no runner for {asked.language!r} here; there is {', '.join(self._languages)}")
        until = arrived + max(0.0, asked.compile_timeout) + max(0.0, asked.run_timeout) + CLIENT_MARGIN_S - ANSWER_S
        compiled: Answer | None = None
        try:
            files, places = _place_files(asked.files), _places(asked.fetch_files)
            binary = None
            if language.compile:
                call = language.compile_call(asked.code, files, max(asked.compile_timeout, _LEAST_S))
                result, binary = compiled_program(await run_held(self._calls, tenant, call, until=until))
                if result.exit_code == NO_PROGRAM:
                    return _error(
                        f"this image has no {language.compile[0]}: `sandbox-service rootfs build --force` adds it"
                    )
                compiled = _describe(result)
                if binary is None:
                    return _answer(compiled, None, result, {})
            call = language.run_call(
                asked.code,
                files,
                binary,
                stdin=asked.stdin or "",
                fetch=list(places.values()),
                limits=_limits(asked.run_timeout, asked.memory_limit_MB),
            )
            result = await run_held(self._calls, tenant, call, until=until)
        except InvalidCall as error:
            return _error(error.message)
        return _answer(compiled, _describe(result), result, places)

    async def run_jupyter(self, tenant: str, asked: RunJupyter, arrived: float) -> Answer:
        total_s = max(asked.total_timeout, _LEAST_S)
        until = arrived + total_s + CLIENT_MARGIN_S - ANSWER_S
        try:
            files, places = _place_files(asked.files), _places(asked.fetch_files)
            # A module of cells, so that a jail is chosen by what they import.
            cells = json.dumps([len(cell) for cell in asked.cells]) + "\n" + "\n".join(asked.cells)
            call = make_call(
                code=program("notebook"),
                args=[str(asked.cell_timeout), str(total_s)],
                files={**files, CELLS: base64.b64encode(f"#{cells}".encode(errors="replace")).decode()},
                fetch=[RESULTS, *places.values()],
                limits=_limits(total_s + CLIENT_MARGIN_S, asked.memory_limit_MB),
            )
            result = await run_held(self._calls, tenant, call, until=until + CLIENT_MARGIN_S)
        except InvalidCall as error:
            return {"driver": None, "cells": [], **_common("SandboxError", error.message, {})}
        return _notebook(result, places)


def _answer(compiled: Answer | None, ran: Answer | None, result: Result, places: Mapping[str, str]) -> Answer:
    steps = [step for step in (compiled, ran) if step is not None]
    is_success = all(step["status"] == "Finished" and step["return_code"] == 0 for step in steps)
    common = _common("Success" if is_success else "Failed", "", _fetched(result, places))
    return {"compile_result": compiled, "run_result": ran, **common}


def _error(message: str) -> Answer:
    return {"compile_result": None, "run_result": None, **_common("SandboxError", message, {})}


def _common(status: str, message: str, files: Mapping[str, str]) -> Answer:
    return {"status": status, "message": message, "executor_pod_name": None, "files": files}


def _describe(result: Result) -> Answer:
    """Return the CommandRunResult of a call that ran; a death by a limit is told in stderr and by a flag."""
    is_late = result.status is Status.TIMED_OUT
    code, stderr = result.exit_code, result.stderr
    if result.signal is not None:
        code = -int(getattr(signal.Signals, result.signal, signal.SIGKILL))
    if result.status is Status.OUT_OF_MEMORY:
        code, stderr = -signal.SIGKILL, f"{stderr}\nMemoryError: killed at its memory limit\n".lstrip("\n")
    if result.status is Status.OUTPUT_LIMIT:
        code, stderr = -signal.SIGKILL, f"{stderr}\nkilled: it wrote more output than is allowed\n".lstrip("\n")
    return {
        "status": "TimeLimitExceeded" if is_late else "Finished",
        "execution_time": result.usage.wall_s,
        "return_code": None if is_late else code,
        "stdout": result.stdout,
        "stderr": stderr,
        "cpu_time": result.usage.cpu_s,
        "memory_peak_mb": result.usage.memory_peak_mb,
        "oom_killed": result.status is Status.OUT_OF_MEMORY,
        "truncated": result.truncated.stdout or result.truncated.stderr,
    }


def _notebook(result: Result, places: Mapping[str, str]) -> Answer:
    driver = _describe(result)
    state, cells = "died", list[Answer]()
    if (told := result.files.get(RESULTS)) is not None:
        state, cells = _read_notebook(told)
    if state == "timed_out":
        driver |= {"status": "TimeLimitExceeded", "return_code": None}
    elif state == "died" and driver["return_code"] == 0:
        driver["return_code"] = 1
    is_success = state == "done" and driver["return_code"] == 0
    common = _common("Success" if is_success else "Failed", "", _fetched(result, places))
    return {"driver": driver, "cells": cells, **common}


def _read_notebook(content: str) -> tuple[str, list[Answer]]:
    """Return how a notebook ended, and its cells.

    SECURITY: the file is the cells' own; what is not of the known form is no result (tests/compat).
    """
    document = base64.b64decode(content)
    if has_too_many_values(document):
        return "died", []
    try:
        told = json.loads(document.decode())  # as UTF-16, which json would take, values were not counted
        cells = [
            {
                "stdout": _text(cell["stdout"]),
                "stderr": _text(cell["stderr"]),
                "display": [
                    {_text(media): _text(form) for media, form in dict(each).items()} for each in cell["display"]
                ],
                "error": [
                    {
                        "ename": _text(each["ename"]),
                        "evalue": _text(each["evalue"]),
                        "traceback": [_text(line) for line in each["traceback"]],
                    }
                    for each in cell["error"]
                ],
            }
            for cell in told["cells"]
        ]
        return str(told["state"]), cells
    except (ValueError, TypeError, KeyError, RecursionError):
        return "died", []


def _text(value: object) -> str:
    """Return a text that every JSON parser takes: no NaN, no half of a surrogate pair."""
    return str(value).encode(errors="replace").decode()


def _fetched(result: Result, places: Mapping[str, str]) -> dict[str, str]:
    """Return the files that there are, by the names that they were asked for."""
    return {name: result.files[place] for name, place in places.items() if place in result.files}


def _place_files(files: Mapping[str, str | None]) -> dict[str, str]:
    """Return the files as a Call takes them. Raise InvalidCall for what cannot be placed."""
    placed = {}
    for name, content in files.items():
        if content is None or _IGNORED in name:
            continue
        try:
            placed[_place(name)] = base64.b64encode(base64.b64decode(content)).decode()
        except (binascii.Error, ValueError) as error:
            raise InvalidCall(f"file {name[:200]!r} is not base64: {error}") from None
    return placed


def _places(names: list[str]) -> dict[str, str]:
    """Return where files to be fetched lie. What no program can write to cannot be there, and is left out."""
    places = {}
    for name in names:
        with contextlib.suppress(InvalidCall):
            places[name] = _place(name)
    return places


def _place(name: str) -> str:
    """Return where a file lies in the jail: below the working directory, or below /tmp, which /mnt leads to."""
    path = posixpath.normpath(posixpath.join("/tmp/work", name))  # noqa: S108
    if path.startswith("/mnt/"):
        path = "/tmp/" + path.removeprefix("/mnt/")  # noqa: S108
    if not path.startswith("/tmp/") or path == "/tmp/work":  # noqa: S108
        raise InvalidCall(f"file {name[:200]!r}: only the working directory, /tmp and /mnt can be written to")
    return path.removeprefix("/tmp/work/")  # noqa: S108


def _limits(wall_s: float, memory_mb: int) -> Limits:
    """What the dialect does not limit itself gets the most that the deployment allows."""
    return Limits.model_construct(
        wall_s=max(wall_s, _LEAST_S),
        cpu_s=float(_MOST),
        memory_mb=memory_mb if 0 < memory_mb < _MOST else _MOST,
        output_kb=OUTPUT_KB,
        processes=_MOST,
    )
