"""Languages of the dialects: from `deploy/languages.toml` to native calls.

What a zygote can run itself is a plain call. Everything else is written to a file and run by
`deploy/programs/launch.py`, which becomes that program. A compiler runs in a call of its own, with nothing of the
program beside it, and what it made goes to the program's call as a file: so the end of each is its own, and neither can
pass for the other.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tomllib
from pydantic import ValidationError

from sandbox_service.errors import InvalidCall
from sandbox_service.gateway.programs import program
from sandbox_service.models import CODE_BYTES, MAX_WALL_S, SCRIPT, Call, Limits, Result, Status
from sandbox_service.reasons import flaws

PROGRAM = "/tmp/.program"  # noqa: S108 (a slot's own /tmp)
"""Where a compiler puts its output: out of the way of the code's own files."""
OWN_SCRIPT = "/tmp/.main.py"  # noqa: S108
"""Where a file that is called like the script of a call waits until the launcher has made place for it."""
NO_PROGRAM = 127
"""Exit code of a call whose command is not in the image."""


@dataclass(frozen=True)
class Language:
    """An entry of the data file."""

    name: str
    file: str
    run: tuple[str, ...]
    compile: tuple[str, ...] = ()
    compile_limits: Limits = field(default_factory=Limits)
    runtime: str = ""
    version: str = ""
    """Empty: that of the image's Python."""
    aliases: tuple[str, ...] = ()

    def compile_call(self, code: str, files: Mapping[str, str], wall_s: float, sources: Sequence[str] = ()) -> Call:
        """Return the call that compiles the code, and those of the files that are `sources`, too; its Result has the
        program in `files[PROGRAM]`. Raise InvalidCall."""
        limits = self.compile_limits.model_copy(update={"wall_s": wall_s, "cpu_s": MAX_WALL_S})
        name = self._file_name(files)
        placed = {**files, name: _base64(code)}
        return self._launch(self.compile, name, placed, sources, fetch=[PROGRAM], limits=limits)

    def run_call(
        self, code: str, files: Mapping[str, str], compiled: str | None, args: Sequence[str] = (), **fields: object
    ) -> Call:
        """Return the call that runs; `compiled` is what the compiler made, as base64. Raise InvalidCall."""
        name = self._file_name(files)
        if name == SCRIPT and len(code.encode(errors="replace")) <= CODE_BYTES:
            return make_call(code=code, files=dict(files), args=list(args), **fields)
        source = {name: _base64(code)} if compiled is None else {PROGRAM: compiled}
        return self._launch(self.run, name, {**files, **source}, args, **fields)

    def _launch(
        self, command: Sequence[str], name: str, files: Mapping[str, str], more: Sequence[str], **fields: object
    ) -> Call:
        args = [*(word.format(file=name, program=PROGRAM) for word in command), *more]
        placed = {OWN_SCRIPT if path == SCRIPT else path: content for path, content in files.items()}
        return make_call(code=program("launch"), args=args, files=placed, **fields)

    def _file_name(self, files: Mapping[str, str]) -> str:
        """Return the file that the code goes to: not one that came along."""
        name = self.file
        while name in files:
            name = f"_{name}"
        return name


def compiled_program(compiled: Result) -> tuple[Result, str | None]:
    """Return how a compiler ended and the program that it made, as base64: one or the other, never well without one.

    SECURITY: code decides how large its program is, and one that is too large to be kept comes from a compiler that
    ended well (tests/security: `test_code_that_compiles_to_too_much_has_failed`).
    """
    program = compiled.files.get(PROGRAM)
    if compiled.status is not Status.OK:
        return compiled, None
    if program is None:
        stderr = f"{compiled.stderr}the compiled program cannot be kept: {compiled.message}\n"
        return compiled.model_copy(update={"status": Status.FAILED, "exit_code": 1, "stderr": stderr}), None
    return compiled, program


def make_call(**fields: object) -> Call:
    """Return this Call; raise InvalidCall, which names the field, if it is not valid."""
    try:
        return Call.model_validate(fields)
    except ValidationError as error:
        field, wrong = next(flaws(Call, error))
        raise InvalidCall(f"{field[:300]}: {wrong}"[:800], field=field[:300]) from None


@functools.cache
def read_languages(path: Path) -> Mapping[str, Language]:
    """Return all languages of `deploy/languages.toml` by name."""
    tables = tomllib.loads(path.read_text())["language"]
    return {table["name"]: _language(**table) for table in tables}


def _language(
    *,
    name: str,
    file: str,
    run: Sequence[str],
    compile: Sequence[str] = (),
    compile_limits: Mapping[str, object] | None = None,
    runtime: str | None = None,
    version: str = "",
    aliases: Sequence[str] = (),
) -> Language:
    limits = Limits.model_validate(compile_limits or {})
    return Language(
        name,
        file,
        tuple(run),
        tuple(compile),
        limits,
        runtime=runtime or name,
        version=version,
        aliases=tuple(aliases),
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
