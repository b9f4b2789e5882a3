"""The Piston dialect: `/api/v2/execute` and `/api/v2/runtimes`.

Times are in ms, memory is in bytes. Every end of a program is HTTP 200; a top-level `message` comes with errors alone,
and what had no verdict in its time is a 504, so that clients try again. The first text file is the program. `output`
is stdout and then stderr: who wrote first is not known.
"""

from __future__ import annotations

import base64
import binascii
import math
import platform
import posixpath
import re
import signal
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from sandbox_service.config import Settings
from sandbox_service.errors import InvalidCall, UnsupportedMedia
from sandbox_service.gateway.answers import answer_json
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.compat.dialect import Asked, Findings, Route
from sandbox_service.gateway.compat.holding import run_held
from sandbox_service.gateway.compat.languages import NO_PROGRAM, Language, compiled_program
from sandbox_service.models import Limits, Result, Status
from sandbox_service.queue import Queue

COMPILE_MS = 10_000
MARGIN_S = 9.0
"""A request is held for its time limits and this much more: open-r1 leaves when it has read nothing for 30 s."""
OUTPUT_KB = 1024
_MOST = 1 << 20
"""Of any limit: lowered to what the deployment allows."""
_UNITS = r"(?:\d+|\*|x)"
_SELECTOR = re.compile(rf"{_UNITS}(?:\.{_UNITS}){{0,2}}", re.IGNORECASE)
_REQUIRED = {
    "language": "language is required as a string",
    "version": "version is required as a string",
    "files": "files is required as an array",
}

Answer = dict[str, Any]
Number = Annotated[float, Field(strict=True)]
Name = Annotated[str, Field(min_length=1)]


class File(Asked):
    name: str | None = None
    content: str
    encoding: Literal["utf8", "base64", "hex"] = "utf8"


class Execute(Asked):
    language: Name
    version: Name
    files: list[File]
    stdin: str | None = None
    args: list[str] | None = None
    compile_memory_limit: Number | None = None
    run_memory_limit: Number | None = None
    compile_timeout: Annotated[Number, Field(ge=0)] | None = None
    run_timeout: Annotated[Number, Field(ge=0)] | None = None
    compile_cpu_time: Annotated[Number, Field(ge=0)] | None = None
    run_cpu_time: Annotated[Number, Field(ge=0)] | None = None


class PistonRoute(Route[Execute]):
    async def answer(self, request: Request) -> Response:
        if not request.headers.get("content-type", "").startswith("application/json"):
            return self._problem("requests must be of type application/json", UnsupportedMedia.http)
        return await super().answer(request)

    def _problem(self, detail: str | Findings, status: int) -> Response:
        message = detail if isinstance(detail, str) else _sentence(detail[0])
        return answer_json({"message": message}, 400 if status == InvalidCall.http else status)


class Piston:
    """The work behind the routes."""

    def __init__(self, calls: Calls, queue: Queue, languages: Mapping[str, Language], settings: Settings) -> None:
        self._calls = calls
        self._queue = queue
        self._runtimes = list(languages.values())
        self._languages = {name: each for each in self._runtimes for name in (each.runtime, *each.aliases)}
        self._default_ms = settings.default_wall_s * 1000
        self._max_ms = settings.max_wall_s * 1000

    async def runtimes(self) -> list[Answer]:
        python = await self._python()
        return [
            {"language": each.runtime, "version": each.version or python, "aliases": list(each.aliases)}
            for each in self._runtimes
        ]

    async def _python(self) -> str:
        """Return the version of the image's Python; no worker has told it yet: the gateway's own."""
        if not self._queue.python:
            await self._queue.images()
        return self._queue.python or platform.python_version()

    async def execute(self, tenant: str, asked: Execute, arrived: float) -> Answer:
        language = self._languages.get(asked.language)
        python = await self._python()
        version = language.version or python if language else ""
        if language is None or not _is_selected(version, asked.version):
            there = ", ".join(f"{each.runtime}-{each.version or python}" for each in self._runtimes)
            raise InvalidCall(f"{asked.language[:100]}-{asked.version[:100]} runtime is unknown; there is {there}")
        run_ms = self._time("run_timeout", asked.run_timeout, self._default_ms)
        compile_ms = self._time("compile_timeout", asked.compile_timeout, min(COMPILE_MS, self._max_ms))
        until = arrived + (run_ms + (compile_ms if language.compile else 0)) / 1000 + MARGIN_S
        code, files = _place_files(asked.files)
        answer: Answer = {"language": language.runtime, "version": version}
        binary = None
        if language.compile:
            sources = [name for name in files if name.endswith((".cpp", ".cc", ".cxx"))]
            call = language.compile_call(code, files, compile_ms / 1000, sources)
            limits = _limits(compile_ms, asked.compile_cpu_time, asked.compile_memory_limit)
            given = limits.model_dump(
                include={"wall_s", "cpu_s", *(["memory_mb"] if limits.memory_mb != _MOST else [])}
            )
            call = call.model_copy(update={"limits": call.limits.model_copy(update=given)})
            compiled, binary = compiled_program(await run_held(self._calls, tenant, call, until=until))
            if compiled.exit_code == NO_PROGRAM:
                raise InvalidCall(f"this image has no {language.compile[0]}: `sandbox-service rootfs build` adds it")
            answer["compile"] = _describe(compiled)
            if binary is None:
                return {**answer, "run": answer["compile"]}
        stdin = asked.stdin or ""
        call = language.run_call(
            code,
            files,
            binary,
            stdin=stdin if stdin.endswith("\n") else f"{stdin}\n",
            args=asked.args or [],
            limits=_limits(run_ms, asked.run_cpu_time, asked.run_memory_limit),
        )
        return {**answer, "run": _describe(await run_held(self._calls, tenant, call, until=until))}

    def _time(self, name: str, given_ms: float | None, default_ms: float) -> float:
        if given_ms is not None and given_ms > self._max_ms:
            raise InvalidCall(f"{name} cannot exceed the configured limit of {self._max_ms:.0f}")
        return given_ms or default_ms


def _sentence(finding: Mapping[str, Any]) -> str:
    """Say of a finding what the original would, where it does."""
    field = [str(part) for part in finding["loc"][1:]]
    if len(field) == 1 and field[0] in _REQUIRED:
        return _REQUIRED[field[0]]
    if len(field) == 3 and field[0] == "files" and field[2] == "content":
        return f"files[{field[1]}].content is required as a string"
    if finding["type"] in ("float_type", "finite_number"):
        return f"if specified, {field[0]} must be a number"
    if finding["type"] == "greater_than_equal":
        return f"{field[0]} must be non-negative"
    return ": ".join(filter(None, (".".join(field), finding["msg"])))


def _is_selected(version: str, selector: str) -> bool:
    """Tell whether `selector` (`*`, `3`, `3.x`, `3.11.4`) means this version."""
    if not _SELECTOR.fullmatch(selector):
        return False
    wanted = selector.lower().split(".")
    return all(part in ("*", "x", own) for part, own in zip(wanted, version.split("."), strict=False))


def _place_files(files: Sequence[File]) -> tuple[str, dict[str, str]]:
    """Return the program and the files beside it, as a Call takes them. Raise InvalidCall."""
    main = next((file for file in files if file.encoding == "utf8"), None)
    if main is None:
        raise InvalidCall("files must include at least one utf8 encoded file")
    placed = {}
    for number, file in enumerate(files):
        if file is main:
            continue
        name = posixpath.normpath(file.name or f"file{number}.code")
        try:
            placed[name] = base64.b64encode(_content(file)).decode()
        except ValueError:
            raise InvalidCall(f"files[{number}].content is not {file.encoding}") from None
    return main.content, placed


def _content(file: File) -> bytes:
    if file.encoding == "utf8":
        return file.content.encode()
    return binascii.unhexlify(file.content) if file.encoding == "hex" else base64.b64decode(file.content)


def _limits(wall_ms: float, cpu_ms: float | None, memory: float | None) -> Limits:
    """What the request does not limit gets the most that the deployment allows."""
    return Limits.model_construct(
        wall_s=wall_ms / 1000,
        cpu_s=cpu_ms / 1000 if cpu_ms else float(_MOST),
        memory_mb=min(_MOST, math.ceil(memory / 2**20)) if memory and memory > 0 else _MOST,
        output_kb=OUTPUT_KB,
        processes=_MOST,
    )


def _describe(result: Result) -> Answer:
    status, message, name = _end(result)
    peak = result.usage.memory_peak_mb
    return {
        "stdout": result.stdout,
        "stderr": result.stderr,
        "output": result.stdout + result.stderr,
        "code": None if name else result.exit_code,
        "signal": name,
        "message": message,
        "status": status,
        "memory": None if peak is None else round(peak * 2**20),
        "cpu_time": round(result.usage.cpu_s * 1000),
        "wall_time": round(result.usage.wall_s * 1000),
    }


def _end(result: Result) -> tuple[str | None, str | None, str | None]:
    """Return the status, message and signal of an end (RE failed, SG signal, TO too slow, OL and EL wrote too much)."""
    if result.status is Status.TIMED_OUT:
        return "TO", f"Time limit exceeded{' (wall clock)' if result.limit == 'wall' else ''}", "SIGKILL"
    if result.status is Status.OUTPUT_LIMIT:
        stream = "stdout" if result.truncated.stdout else "stderr"
        return ("OL" if result.truncated.stdout else "EL"), f"{stream} length exceeded", "SIGKILL"
    if result.status is Status.OUT_OF_MEMORY:
        return "SG", "Memory limit exceeded", "SIGKILL"
    if result.signal is not None:
        number = int(getattr(signal.Signals, result.signal, signal.SIGKILL))
        return "SG", f"Caught fatal signal {number}", result.signal
    if result.exit_code:
        return "RE", f"Exited with error status {result.exit_code}", None
    cut = result.truncated.stdout or result.truncated.stderr
    return None, f"the output is cut at {OUTPUT_KB} KiB" if cut else None, None
