"""The protocol of DESIGN 3.2 as a client sees it: builds requests and reads answers. Does no I/O.

Invariants: a call gets its id here, before the first attempt, and every attempt sends the same bytes, so that the
service recognises a repeat and never runs it twice. A stream without its terminal frame is an error, never a result.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from sandbox_service.errors import WIRE_ERRORS, InvalidCall, SandboxError, ServiceFault, Unavailable
from sandbox_service.models import CHECKS, Batch, Call, Checked, Checks, Result, Ticket, Verdicts
from sandbox_service.reasons import flaws

JSON = "application/json"
NDJSON = "application/x-ndjson"
DEFAULT_TIMEOUT_S = 600.0
"""Deadline of calls that set no `timeout_s`."""
LONG_POLL_S = 30.0
ID_LENGTH = 64
CHECKS_CHARACTERS = 2_000_000
"""In one request, so that its body is accepted however much of it has to be escaped."""

Kind = Literal["calls", "batches"]

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Request:
    """One HTTP request that can be sent any number of times."""

    method: str
    path: str
    content: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    accept: str = JSON

    def headers(self) -> dict[str, str]:
        return {"Accept": self.accept, **({"Content-Type": JSON} if self.content else {})}


# Requests


def prepare(code: str | Call, fields: Mapping[str, object]) -> Call:
    """Return a Call that has an id and a deadline. InvalidCall names the field that is wrong."""
    if isinstance(code, Call) and fields:
        raise TypeError("fields go with code given as text; a Call carries its own")
    if not isinstance(code, str | Call):
        kind = type(code).__name__
        raise InvalidCall(f"code: must be a program as text, or a Call, not of type {kind}", field="code")
    call = code if isinstance(code, Call) else _validate(Call, {"code": code, **fields})
    added = {"id": call.id or uuid.uuid4().hex, "timeout_s": call.timeout_s or DEFAULT_TIMEOUT_S}
    return call.model_copy(update=added)


def prepare_batch(calls: Sequence[Call | str]) -> Batch:
    """Return a Batch that has an id, of calls that have a deadline. The service names those that have no id."""
    refuse_text(calls)
    if not calls:
        raise InvalidCall("calls: must hold at least one call", field="calls")
    named = [(call, call.id if isinstance(call, Call) else None) for call in calls]
    prepared = [prepare(call, {}).model_copy(update={"id": id}) for call, id in named]
    return _validate(Batch, {"id": uuid.uuid4().hex, "calls": prepared})


def refuse_text(calls: Iterable[Call | str]) -> None:
    """A program alone is a sequence of strings as well, and each of its characters a program."""
    if isinstance(calls, str):
        raise InvalidCall("calls: must be a list of calls; `run` takes one program", field="calls")


def patience_s(calls: Sequence[Call]) -> float:
    """Return how long an answer to these calls is of use."""
    return max(call.timeout_s or DEFAULT_TIMEOUT_S for call in calls)


def again(call: Call, first_id: str, number: int) -> Call:
    """Return the call to send after an `infra_error`: its own id would bring that same Result again.

    The new id follows from the first one, so that a caller who comes back with the first id finds what was run.
    """
    suffix = f"-again{number}"
    room = ID_LENGTH - len(suffix)
    stem = first_id if len(first_id) <= room else hashlib.sha256(first_id.encode()).hexdigest()[:room]
    return call.model_copy(update={"id": stem + suffix})


def id_of(kind: Kind, which: str | Ticket) -> str:
    """Return the id that somebody asks for by itself or by its ticket."""
    if isinstance(which, str):
        return which
    if not isinstance(which, Ticket):
        raise InvalidCall(f"id: must be an id or a Ticket, not of type {type(which).__name__}", field="id")
    if not which.url.startswith(_place(kind, "")):
        other = "wait, get and cancel" if kind == "batches" else "wait_batch, get_batch and cancel_batch"
        raise InvalidCall(f"id: what this Ticket is for is asked for with {other}", field="id")
    return which.id


def submit(call: Call) -> Request:
    return Request("POST", "/v1/calls", _body(call), params={"wait": "0"})


def submit_batch(batch: Batch) -> Request:
    return Request("POST", "/v1/batches", _body(batch), params={"wait": "0"})


def stream(calls: Sequence[Call]) -> Request:
    # The batch needs no id of its own: its calls have theirs, and a repeat may leave out what has come already.
    return Request("POST", "/v1/batches", _body(Batch.model_construct(calls=list(calls))), accept=NDJSON)


def poll(kind: Kind, id: str, *, wait_s: float) -> Request:
    return Request("GET", _place(kind, id), params={"wait_s": f"{wait_s:.3f}"})


def cancel(kind: Kind, id: str) -> Request:
    return Request("DELETE", _place(kind, id))


def cancel_label(name: str, value: str) -> Request:
    return Request("DELETE", "/v1/calls", params={"label": f"{name}:{value}"})


def prepare_checks(pairs: Sequence[tuple[str, str]], limit_s: float) -> list[Checks]:
    """Return the requests that check these (answer, reference) pairs, in order, each small enough to be one."""
    _refuse_no_text(pairs)
    portions: list[Checks] = []
    start = size = 0
    checks = [{"answer": answer, "reference": reference} for answer, reference in pairs]
    for index, (answer, reference) in enumerate(pairs):
        length = len(answer) + len(reference)
        if index - start == CHECKS or (index > start and size + length > CHECKS_CHARACTERS):
            portions.append(_validate(Checks, {"checks": checks[start:index], "limit_s": limit_s}))
            start, size = index, 0
        size += length
    return [*portions, _validate(Checks, {"checks": checks[start:], "limit_s": limit_s})]


def _refuse_no_text(pairs: Sequence[tuple[str, str]]) -> None:
    for index, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2:
            raise InvalidCall(f"checks.{index}: must be a pair (answer, reference)", field=f"checks.{index}")
        for name, value in zip(("answer", "reference"), pair, strict=True):
            if not isinstance(value, str):
                place = f"checks.{index}.{name}"
                raise InvalidCall(f"{place}: must be text, as in '0.5', not {type(value).__name__}", field=place)


def verify(checks: Checks) -> Request:
    return Request("POST", "/v1/verify", _body(checks))


def _place(kind: Kind, id: str) -> str:
    return f"/v1/{kind}/{quote(id, safe='')}"


def _body(model: BaseModel) -> bytes:
    return model.model_dump_json(exclude_defaults=True).encode()


def _validate(model: type[ModelT], fields: Mapping[str, object]) -> ModelT:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        place, wrong = next(flaws(model, error))
        raise InvalidCall(f"{place}: {wrong}", field=place) from error


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


class _Batch(_Answer):
    results: list[Result]


class _Cancelled(_Answer):
    cancelled: int


class _Frame(_Answer):
    """One line of a stream: a result, an error that ended the stream, or (neither) the terminal frame."""

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


def read_batch_poll(status: int, body: bytes) -> list[Result] | None:
    return None if status == HTTPStatus.ACCEPTED else _parse(_Batch, body).results


def read_cancelled(body: bytes) -> int:
    return _parse(_Cancelled, body).cancelled


def read_verdicts(body: bytes, count: int) -> list[Checked]:
    return in_full(_parse(Verdicts, body), count)


def in_full(verdicts: Verdicts, count: int) -> list[Checked]:
    """Raise ServiceFault unless there is a verdict on each check."""
    if len(verdicts.results) != count:
        raise ServiceFault(f"the answer has {len(verdicts.results)} verdicts on {count} checks")
    return verdicts.results


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
    """Reads the ndjson answer to one attempt at a batch: `feed` with bytes as they come, then `end`."""

    def __init__(self) -> None:
        self._rest = b""
        self._done = False

    def feed(self, data: bytes) -> Iterator[Result]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            frame = _parse(_Frame, line)
            if frame.error is not None:
                raise _to_error(frame.error, ServiceFault)
            if frame.result is not None:
                yield frame.result
            self._done = frame.done

    def end(self) -> None:
        """Raise ServiceFault if this was not the whole stream."""
        if not self._done:
            raise ServiceFault("the stream of results ended without its terminal frame")


def to_error(stated: Mapping[str, object]) -> SandboxError:
    """Return the error that the service stated."""
    return _to_error(validate_answer(_Error, stated), ServiceFault)


def validate_answer(model: type[ModelT], fields: Mapping[str, object]) -> ModelT:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _unreadable(model, error) from error


def _to_error(stated: _Error, otherwise: type[SandboxError]) -> SandboxError:
    kind = _BY_CODE.get(stated.code, otherwise)
    details = [(detail.field, detail.message) for detail in stated.details]
    return kind(stated.message, field=stated.field, retry_after_s=stated.retry_after_s, details=details)


def _delay_s(header: str) -> float | None:
    """Read a Retry-After header: seconds, or a date (RFC 9110, 10.2.3), which is turned into seconds from now."""
    if header.isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _parse(model: type[ModelT], body: bytes) -> ModelT:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _unreadable(model, error) from error


def _unreadable(model: type[BaseModel], error: ValidationError) -> ServiceFault:
    return ServiceFault(f"the answer is not a {model.__name__.strip('_')}: {error}")
