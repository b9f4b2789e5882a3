"""The protocol of DESIGN 3.2 as a client sees it: builds requests, reads answers, decides on retries. Does no I/O.

Invariants: a call gets its id here, before the first attempt, and every attempt sends the same bytes, so that the
service recognises a repeat and never runs it twice. A stream without its terminal frame is an error, never a result.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from sandbox_service.errors import WIRE_ERRORS, InvalidCall, SandboxError, ServiceFault, Unavailable
from sandbox_service.models import Batch, Call, Result, Ticket

JSON = "application/json"
NDJSON = "application/x-ndjson"
DEFAULT_TIMEOUT_S = 600.0
"""Deadline of calls that set no `timeout_s`."""
ANSWER_MARGIN_S = 10.0
"""How much longer than the call's own deadline an answer is waited for: the service itself says `expired`."""
CONNECT_S = 10.0
LONG_POLL_S = 30.0

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Retries:
    """How often a refused or broken request is repeated, and how long to pause in between.

    The pause is what Retry-After says plus a random part of up to min(cap_s, base_s * 2**failures). A pause that
    would outlast the deadline is not begun.
    """

    failures: int = 8
    """Failures in a row after which the last one is final."""
    base_s: float = 0.1
    cap_s: float = 5.0

    def pause_s(self, error: SandboxError, failures: int, remaining_s: float) -> float:
        """Return how long to pause after the failure with this number; raise `error` if it is final."""
        jitter = random.uniform(0, min(self.cap_s, self.base_s * 2.0**failures))  # noqa: S311  (spreads load)
        pause = jitter + (error.retry_after_s or 0.0)
        if not error.retryable or failures >= self.failures or pause >= remaining_s:
            raise error
        return pause


@dataclass(frozen=True)
class Request:
    """One HTTP request that can be sent any number of times."""

    method: str
    path: str
    timeout_s: float
    """For all attempts together, the pauses between them included."""
    content: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    accept: str = JSON

    def headers(self) -> dict[str, str]:
        return {"Accept": self.accept, **({"Content-Type": JSON} if self.content else {})}


# Requests


def base_url(url: str) -> str:
    """Return the service's address without a slash at its end. ValueError: no request could ever be sent there."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not the address of a service; it looks like http://127.0.0.1:8000")
    return url.rstrip("/")


def prepare(code: str | Call, fields: Mapping[str, object]) -> Call:
    """Return a Call that has an id and a deadline. InvalidCall names the field that is wrong."""
    if isinstance(code, Call) and fields:
        raise TypeError("fields go with code given as text; a Call carries its own")
    call = code if isinstance(code, Call) else _validate(Call, {"code": code, **fields})
    added = {"id": call.id or uuid.uuid4().hex, "timeout_s": call.timeout_s or DEFAULT_TIMEOUT_S}
    return call.model_copy(update=added)


def run(call: Call) -> Request:
    return Request("POST", "/v1/calls", _patience_s(call), _body(call))


def submit(call: Call) -> Request:
    return Request("POST", "/v1/calls", _patience_s(call), _body(call), params={"wait": "0"})


def stream(calls: Sequence[Call]) -> Request:
    batch = _validate(Batch, {"id": uuid.uuid4().hex, "calls": list(calls)})
    return Request("POST", "/v1/batches", max(map(_patience_s, calls)), _body(batch), accept=NDJSON)


def poll(id: str, *, wait_s: float) -> Request:
    return Request("GET", _place(id), wait_s + ANSWER_MARGIN_S, params={"wait_s": f"{wait_s:.3f}"})


def cancel(id: str) -> Request:
    return Request("DELETE", _place(id), ANSWER_MARGIN_S)


def cancel_label(name: str, value: str) -> Request:
    return Request("DELETE", "/v1/calls", ANSWER_MARGIN_S, params={"label": f"{name}:{value}"})


def _place(id: str) -> str:
    return f"/v1/calls/{quote(id, safe='')}"


def _patience_s(call: Call) -> float:
    return (call.timeout_s or DEFAULT_TIMEOUT_S) + ANSWER_MARGIN_S


def _body(model: BaseModel) -> bytes:
    return model.model_dump_json(exclude_defaults=True).encode()


def _validate(model: type[ModelT], fields: Mapping[str, object]) -> ModelT:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidCall(f"{place}: {first['msg'].removeprefix('Value error, ')}", field=place) from error


# Answers


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Detail(_Answer):
    field: str
    message: str


class _Error(_Answer):
    code: str
    message: str
    field: str | None = None
    retry_after_s: float | None = None
    details: list[_Detail] = []


class _ErrorBody(_Answer):
    error: _Error


class _Cancelled(_Answer):
    cancelled: int


class _Frame(_Answer):
    """One line of a stream: a result, an error that ended the stream, or (neither) the terminal frame."""

    index: int = -1
    result: Result | None = None
    error: _Error | None = None
    done: bool = False


_BY_CODE = {kind.code: kind for kind in WIRE_ERRORS}
_BY_STATUS = {kind.http: kind for kind in WIRE_ERRORS} | {502: Unavailable, 504: Unavailable}


def read_result(body: bytes) -> Result:
    return _parse(Result, body)


def read_ticket(body: bytes) -> Ticket:
    return _parse(Ticket, body)


def read_poll(status: int, body: bytes) -> Result | None:
    """Return the Result, or None while the call is not done."""
    return None if status == HTTPStatus.ACCEPTED else read_result(body)


def read_cancelled(body: bytes) -> int:
    return _parse(_Cancelled, body).cancelled


def read_error(status: int, headers: Mapping[str, str], body: bytes) -> SandboxError:
    """Return the error an answer stands for: by the code in its body, else (a proxy's page) by the HTTP status."""
    try:
        stated = _ErrorBody.model_validate_json(body).error
    except ValidationError:
        stated = _Error(code="", message=f"HTTP {status}, and no error that this client knows")
    error = _to_error(stated, _BY_STATUS.get(status, ServiceFault if status >= 500 else InvalidCall))
    if error.retry_after_s is None:
        error.retry_after_s = _delay_s(headers.get("retry-after", ""))
    return error


def unreachable(url: str, fault: Exception) -> Unavailable:
    return Unavailable(f"no answer from {url}: {type(fault).__name__}: {fault}")


class StreamReader:
    """Reads the ndjson answer to a batch, over as many attempts as it takes: each index comes out exactly once.

    For every attempt: `begin`, `feed` with bytes as they come, and `end`, which raises if something is missing.
    """

    def __init__(self, count: int) -> None:
        self.missing = set(range(count))
        self.begin()

    def begin(self) -> None:
        self._rest = b""
        self._done = False

    def feed(self, data: bytes) -> Iterator[tuple[int, Result]]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            frame = _parse(_Frame, line)
            if frame.error is not None:
                raise _to_error(frame.error, ServiceFault)
            if frame.result is not None and frame.index in self.missing:
                self.missing.remove(frame.index)
                yield frame.index, frame.result
            self._done = frame.done

    def end(self) -> None:
        if not self._done:
            raise ServiceFault("the stream of results ended without its terminal frame")
        if self.missing:
            raise ServiceFault(f"the stream of results left out calls {sorted(self.missing)[:10]}")


def _to_error(stated: _Error, otherwise: type[SandboxError]) -> SandboxError:
    kind = _BY_CODE.get(stated.code, otherwise)
    details = [(detail.field, detail.message) for detail in stated.details]
    return kind(stated.message, field=stated.field, retry_after_s=stated.retry_after_s, details=details)


def _delay_s(header: str) -> float | None:
    """Read a Retry-After header in its form of seconds; its form of a date (RFC 9110, 10.2.3) is not used here."""
    return float(header) if header.isdecimal() else None


def _parse(model: type[ModelT], body: bytes) -> ModelT:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ServiceFault(f"the answer is not a {model.__name__.strip('_')}: {error}") from error
