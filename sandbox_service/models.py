"""The one shape of calls and results, for HTTP, the queue, the worker and the client.

Owns what is valid in a request and what every status means. It reads no settings: a deployment's policy (default
and highest limits) is applied by the gateway, inside the bounds given here. Unknown fields are refused.
"""

from __future__ import annotations

import base64
import re
from enum import Enum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic.config import JsonDict

CODE_BYTES = 256 * 1024
STDIN_BYTES = 8 * 1024 * 1024
FILE_BYTES = 8 * 1024 * 1024
FILES_COUNT = 64
BATCH_CALLS = 1024
CHECKS = 16_384
CHECKED_BYTES = 1024 * 1024
CANCELLED_MESSAGE = "cancelled by the caller"
"""Whether it was queued or running."""
SCRIPT = "main.py"
"""Where a program finds its own code, in the working directory."""
MAX_WALL_S = 3600.0
HARD_OUTPUT_FACTOR = 64
"""A program that writes more than this many times its soft output cap is killed (`output_limit`)."""


class _Word(str, Enum):
    """Printed as the word that it is on the wire, under every Python (3.11 changed what `format` gives)."""

    def __str__(self) -> str:
        return str(self.value)


class Status(_Word):
    """What became of a call; a closed list. Decided from evidence outside the jail, never from text."""

    OK = "ok"
    """Exit code 0."""
    FAILED = "failed"
    """Non-zero exit code or an uncaught exception. The code's fault."""
    SIGNALED = "signaled"
    """Ended by a signal; SIGSYS means a denied system call. The code's fault."""
    TIMED_OUT = "timed_out"
    """Used up its `cpu` or `wall` limit (see `limit`). The code's fault."""
    OUT_OF_MEMORY = "out_of_memory"
    """Killed by the kernel at its memory limit, by the cgroup's own counter. The code's fault."""
    OUTPUT_LIMIT = "output_limit"
    """Wrote past the hard output cap; what fits the soft cap is returned. The code's fault."""
    EXPIRED = "expired"
    """Its deadline passed before it started; it never ran. The caller's doing."""
    CANCELLED = "cancelled"
    """The caller gave up: by a DELETE, or because its deadline passed while the call ran. The caller's doing."""
    INFRA_ERROR = "infra_error"
    """Our fault (`message` says what). Retryable; never to be scored as a wrong answer."""


ModelT = TypeVar("ModelT", bound=BaseModel)


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Answer(BaseModel):
    """What the service sends: a client takes one from a newer service, with fields that it does not know."""

    model_config = ConfigDict(extra="ignore")


def _bounded_text(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        # A lone surrogate cannot be encoded: it has no UTF-8 form, so it could never reach the interpreter.
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise ValueError("holds a lone surrogate, which is not valid Unicode text") from error
        if size > limit:
            raise ValueError(f"is {size} bytes long; at most {limit} are allowed")
        return text

    return AfterValidator(check)


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL byte")
    return text


def _jail_path(path: str) -> str:
    """Accept a plain path below the working directory, or an absolute one below /tmp, the one place to write to.

    SECURITY: the path is opened inside the jail only; this check exists to give a precise error early.
    """
    below = path.removeprefix("/tmp/")  # noqa: S108 (a slot's own /tmp)
    if not below or below.startswith("/") or "\0" in below:
        raise ValueError(f"{path!r} must be a relative path, or one below /tmp, without NUL bytes")
    parts = below.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{path!r} must not hold empty, '.' or '..' parts")
    if below != path and parts[0] == "work":
        raise ValueError(f"{path!r} is in the working directory: write it as a relative path")
    if len(path.encode(errors="surrogatepass")) > 255:
        raise ValueError("a path is at most 255 bytes long")
    return path


def _base64_content(content: Any) -> str:
    if not isinstance(content, str):
        raise ValueError("must be the file's bytes as a base64 string: base64.b64encode(content).decode() in Python")
    if len(content) > 4 * (FILE_BYTES // 3 + 1):
        raise ValueError(f"is too long; a file is at most {FILE_BYTES} bytes")
    try:
        size = len(base64.b64decode(content, validate=True))
    except ValueError as error:
        raise ValueError(f"is not valid base64, which the file's bytes are sent in: {error}") from error
    if size > FILE_BYTES:
        raise ValueError(f"is {size} bytes long; a file is at most {FILE_BYTES} bytes")
    return content


def _no_clashes(files: dict[str, str]) -> dict[str, str]:
    """Refuse what cannot lie in one folder: a path that is also the folder of another one."""
    for path in files:
        if path == SCRIPT:
            raise ValueError(f"{path!r} is the path of the code itself; choose another name")
        for folder in map(str, PurePosixPath(path).parents):
            if folder == SCRIPT:
                raise ValueError(f"{path!r} clashes with {SCRIPT!r}, the file that the code itself is in")
            if folder in files:
                raise ValueError(f"{path!r} clashes with {folder!r}: a path cannot be a file and a folder")
    return files


def _not_empty(calls: list[ModelT]) -> list[ModelT]:
    if not calls:
        raise ValueError("must hold at least one call")
    return calls


def _some(checks: list[ModelT]) -> list[ModelT]:
    if not checks:
        raise ValueError("must hold at least one check")
    return checks


_PROTECTED_ENV = re.compile(r"^(LD_|PYTHON|GCONV_PATH|BASH_ENV|ENV$|IFS$)")


def _env_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", name):
        raise ValueError(f"{name!r} is not a valid variable name")
    if _PROTECTED_ENV.match(name):
        raise ValueError(f"{name!r} steers the loader or the interpreter and cannot be set")
    return name


def _reserved(value: Any) -> None:
    if value is not None:
        raise ValueError("sessions are not offered yet; leave this field out")


def _written(pattern: str, **more: Any) -> WithJsonSchema:
    """What the published schema says of a text whose rules are checked by code; regular expressions as in ECMA-262."""
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


_NAME_OF_VARIABLE = r"^(?!LD_|PYTHON|GCONV_PATH|BASH_ENV|ENV$|IFS$)[A-Za-z_][A-Za-z0-9_]{0,127}$"
_PATH = r"^(/tmp/(?!work(/|$)))?(?!([^\u0000]*/)?\.{0,2}(/|$))[^\u0000]{1,255}$"
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def _whole(number: Any) -> Any:
    """JSON has one kind of number: 5.0 is an integer there, and some clients write it so."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Text = Annotated[str, _bounded_text(STDIN_BYTES)]
ShortText = Annotated[str, _bounded_text(64 * 1024), AfterValidator(_no_nul), _written(r"^[^\u0000]*$")]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
JailPath = Annotated[str, _bounded_text(255), AfterValidator(_jail_path), _written(_PATH, maxLength=255)]
Base64 = Annotated[str, BeforeValidator(_base64_content), _written(_BASE64, contentEncoding="base64")]
EnvName = Annotated[str, AfterValidator(_env_name), _written(_NAME_OF_VARIABLE)]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
LabelValue = Annotated[
    str, Field(max_length=256), _bounded_text(1024), AfterValidator(_no_nul), _written(r"^[^\u0000]*$", maxLength=256)
]


class Limits(Model):
    """Limits of one call. Omitted ones get the deployment's default, larger ones its maximum; what is beyond the bounds
    given here, which no deployment has, is refused."""

    wall_s: float | None = Field(None, gt=0, le=MAX_WALL_S, description="wall-clock seconds, from the fork on")
    cpu_s: float | None = Field(None, gt=0, le=MAX_WALL_S, description="CPU seconds of all its processes together")
    memory_mb: int | None = Field(None, ge=1, le=1_048_576, description="MiB on top of the preloaded interpreter")
    output_kb: int | None = Field(None, ge=1, le=16_384, description="KiB kept of stdout, and of stderr (soft cap)")
    processes: int | None = Field(None, ge=1, le=4096, description="processes and threads at once")
    disk_mb: int | None = Field(None, ge=1, le=65_536, description="MiB of files in /tmp and the working directory")

    _integers = field_validator("memory_mb", "output_kb", "processes", "disk_mb", mode="before")(_whole)


_COMPARED: JsonDict = {
    "if": {"required": ["compare"], "properties": {"compare": {"enum": ["exact", "lines"]}}},
    "then": {"required": ["expected_stdout"], "properties": {"expected_stdout": {"type": "string"}}},
}


class Call(Model):
    """One piece of code to run."""

    model_config = ConfigDict(json_schema_extra=_COMPARED)

    id: Identifier | None = Field(None, description="idempotency key: the same id and body give the same Result")
    language: Literal["python"] = "python"
    code: Annotated[str, _bounded_text(CODE_BYTES)]
    stdin: Text = ""
    args: list[ShortText] = Field(default_factory=list, max_length=256)
    env: dict[EnvName, ShortText] = Field(
        default_factory=dict, max_length=256, json_schema_extra={"additionalProperties": False}
    )
    files: Annotated[dict[JailPath, Base64], AfterValidator(_no_clashes)] = Field(
        default_factory=dict,
        max_length=FILES_COUNT,
        description="files to place in the working directory or below /tmp, as base64",
        json_schema_extra={"additionalProperties": False},
    )
    fetch: list[JailPath] = Field(
        default_factory=list, max_length=FILES_COUNT, description="files to return in the Result, if they exist"
    )
    timeout_s: float | None = Field(
        None, gt=0, le=86_400, description="seconds until the answer is of no more use, queueing included"
    )
    limits: Limits = Field(default_factory=Limits)
    expected_stdout: Text | None = Field(None, description="compared outside the jail; sets `passed`")
    compare: Literal["exact", "strip", "lines"] = "strip"
    show_last_value: bool = Field(False, description="print the value of a last expression, as a notebook does")
    seed: int | None = Field(None, ge=0, le=2**32 - 1, description="seeds `random` and `numpy.random`")
    network: Literal["none", "loopback"] = "none"
    image: Identifier | None = Field(None, description="name of the rootfs to run in; None is the default image")
    priority: Literal["interactive", "batch"] = "interactive"
    labels: dict[LabelName, LabelValue] = Field(
        default_factory=dict,
        max_length=16,
        description="echoed; calls can be cancelled by label",
        json_schema_extra={"additionalProperties": False},
    )
    session: Annotated[None, BeforeValidator(_reserved)] = Field(None, description="reserved; refused for now")

    _integers = field_validator("seed", mode="before")(_whole)

    @field_validator("compare")
    @classmethod
    def _has_something_to_compare_with(cls, compare: str, found: ValidationInfo) -> str:
        # Not of the default, which stands in every Call that was written out whole.
        if compare != "strip" and found.data.get("expected_stdout", "") is None:
            raise ValueError("is how stdout is compared with `expected_stdout`, which is missing: give it too")
        return compare


class Job(Call):
    """A Call as it travels through the queue: its id given, its limits resolved."""

    # The gateway names calls that come without an id: `<batch id>.<index>` in a batch; clients cannot use a dot.
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}(\.[0-9]{1,4})?$")]
    lowered: list[str] = Field(default_factory=list, description="limits that policy lowered; told in the message")


class Batch(Model):
    """Calls submitted together; results keep their order."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,48}$")] | None = None
    calls: Annotated[list[Call], AfterValidator(_not_empty)] = Field(
        max_length=BATCH_CALLS, json_schema_extra={"minItems": 1}
    )


class Truncated(Answer):
    """Which stream was longer than the soft output cap. The program itself went on."""

    stdout: bool = False
    stderr: bool = False


class Usage(Answer):
    """What the call used, measured outside the jail."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    descheduled_s: float | None = Field(
        None, description="time it was ready to run and had no CPU; null where not known"
    )
    memory_peak_mb: float | None = Field(None, description="null where the kernel cannot tell it per call")


class Timings(Answer):
    """Seconds spent in each phase of the call's life."""

    admitted: float = Field(0.0, description="from the request's arrival to its place in the queue")
    queued: float = Field(0.0, description="in the queue until a worker claimed it")
    dispatched: float = Field(0.0, description="in the worker until the fork was asked for")
    forked: float = Field(0.0, description="until the zygote reported the fork")
    ran: float = Field(0.0, description="until the child's exit was seen")
    collected: float = Field(0.0, description="reading output, counters and files")
    total: float = Field(0.0, description="from arrival to the answer")


class Result(Answer):
    """What became of a Call."""

    id: str
    status: Status
    exit_code: int | None = None
    signal: str | None = Field(None, description="name of the signal that ended it, e.g. SIGSEGV")
    limit: Literal["wall", "cpu", "memory", "output", "deadline"] | None = Field(
        None, description="the limit that ended it; `deadline` comes with `cancelled` when `timeout_s` passed mid-run"
    )
    retryable: bool = Field(False, description="true only for `infra_error`")
    stdout: str = ""
    stderr: str = ""
    replaced: Truncated = Field(default_factory=Truncated, description="streams that held bytes that are not UTF-8")
    truncated: Truncated = Field(default_factory=Truncated)
    files: dict[str, str] = Field(default_factory=dict)
    passed: bool | None = Field(None, description="ok and stdout is the expected one; null if none was given")
    usage: Usage = Field(default_factory=Usage)
    timings: Timings = Field(default_factory=Timings)
    attempts: int = Field(0, description="executions of this call; 2 only after a fault of ours")
    worker: str | None = None
    image: str | None = Field(None, description="content hash of the rootfs it ran in")
    labels: dict[str, str] = Field(default_factory=dict)
    message: str | None = None


class Ticket(Answer):
    """Receipt of an accepted call or batch, to await or poll."""

    id: str
    state: Literal["queued", "running", "done"]
    url: str


class CheckStatus(_Word):
    """How the check of an answer went."""

    OK = "ok"
    """Compared: `correct` says how."""
    UNPARSED = "unparsed"
    """Nothing in the answer can be read as mathematics: not correct."""
    TIMED_OUT = "timed_out"
    """The answer used up the time of a check: not correct."""
    TOO_LARGE = "too_large"
    """The answer needs more memory than a check has: not correct."""
    BAD_REFERENCE = "bad_reference"
    """The reference cannot be read, which says nothing about the answer."""
    EXPIRED = "expired"
    """The request's `timeout_s` passed before."""
    INFRA_ERROR = "infra_error"
    """Our fault. Check it again; never a wrong answer."""


class Check(Model):
    """An answer to compare with a reference by what they mean. Either is a whole text that marks it (`\\boxed{}`,
    `$...$`), or the bare answer."""

    answer: Annotated[str, _bounded_text(CHECKED_BYTES)]
    reference: Annotated[str, _bounded_text(CHECKED_BYTES)]


class Checks(Model):
    """Answers to check in one request."""

    checks: Annotated[list[Check], AfterValidator(_some)] = Field(max_length=CHECKS, json_schema_extra={"minItems": 1})
    limit_s: float = Field(2.0, ge=0.05, le=30, description="CPU seconds for each check")
    timeout_s: float | None = Field(None, gt=0, le=86_400, description="seconds until the verdicts are of no more use")


class Checked(Answer):
    """The verdict on one answer. As a condition it is `correct`, and raises ValueError where nothing was judged."""

    status: CheckStatus
    correct: bool | None = Field(None, description="null where the answer was not judged: that is no wrong answer")

    def __bool__(self) -> bool:
        if self.correct is None:
            raise ValueError(f"the answer was not judged ({self.status.value}): neither right nor wrong")
        return self.correct


class Verdicts(Answer):
    """The verdicts, in the order of the checks."""

    results: list[Checked]
