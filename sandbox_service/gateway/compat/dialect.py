"""What the dialects have in common on HTTP: reading a request leniently, and the shape of their errors.

SandboxFusion and code-judge are FastAPI applications: unknown keys are ignored, numbers may be strings, and an error is
`{"detail": ...}`, a list of findings if the body is not valid.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from sandbox_service.errors import InvalidCall, Overloaded, SandboxError, ServiceFault, Unavailable
from sandbox_service.gateway.answers import answer_json
from sandbox_service.gateway.attend import attend
from sandbox_service.gateway.auth import Gatekeeper, header
from sandbox_service.gateway.body import MAX_DETAILS, read_body
from sandbox_service.gateway.compat.holding import OutOfTime
from sandbox_service.metrics import CALLS_REFUSED

GATEWAY_TIMEOUT = 504
"""The one status that verl tries again; the other clients take it for a fault, too."""
_FAULTS = (Overloaded, Unavailable, ServiceFault)
_ECHOED = 200
"""An offending value is sent back if its JSON is not longer than this."""

A = TypeVar("A", bound="Asked")
Findings = list[dict[str, Any]]
Endpoint = Callable[[Request], Awaitable[Response]]


def status_of(error: SandboxError) -> int:
    """Return the HTTP status that clients of a dialect understand."""
    return GATEWAY_TIMEOUT if isinstance(error, _FAULTS) else error.http


class Asked(BaseModel):
    """A request of a dialect."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Route(Generic[A]):
    """An endpoint that reads an `A` and answers what `work(tenant, asked, arrived)` returns, as JSON."""

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        max_bytes: int,
        model: type[A],
        work: Callable[[str, A, float], Coroutine[Any, Any, object]],
    ) -> None:
        self._gatekeeper = gatekeeper
        self._max_bytes = max_bytes
        self._model = model
        self._work = work

    async def answer(self, request: Request) -> Response:
        arrived = time.monotonic()
        try:
            # SECURITY: these paths may carry any prefix, so a route asks for the key itself (tests/compat).
            tenant = self._gatekeeper.tenant(header(request.scope, b"authorization"))
            asked = self._read(await read_body(request, self._max_bytes))
            return answer_json(await attend(request.receive, self._work(tenant, asked, arrived)))
        except _Invalid as invalid:
            CALLS_REFUSED.labels(InvalidCall.code).inc()
            return self._problem(invalid.findings, InvalidCall.http)
        except OutOfTime as late:
            return self._problem(str(late), GATEWAY_TIMEOUT)
        except SandboxError as error:
            if not isinstance(error, _FAULTS):
                CALLS_REFUSED.labels(error.code).inc()
            return self._problem(error.message, status_of(error))

    def _problem(self, detail: str | Findings, status: int) -> Response:
        return answer_json({"detail": detail}, status)

    def _read(self, body: bytes) -> A:
        try:
            return self._model.model_validate_json(body)
        except ValidationError as error:
            raise _Invalid(error) from None


class _Invalid(Exception):
    def __init__(self, error: ValidationError) -> None:
        found = error.errors(include_url=False, include_context=False)[:MAX_DETAILS] if _is_sane(error) else []
        self.findings: Findings = [
            {
                "type": finding["type"],
                "loc": ["body", *finding["loc"]],
                "msg": finding["msg"],
                "input": _echo(finding["input"]),
            }
            for finding in found
        ] or [{"type": "value_error", "loc": ["body"], "msg": f"{error.error_count()} errors", "input": None}]


def _is_sane(error: ValidationError) -> bool:
    # SECURITY: a body can hold a million errors; they are not described (tests/compat).
    return error.error_count() <= MAX_DETAILS * 10


def _echo(value: object) -> object:
    try:
        return value if len(json.dumps(value, allow_nan=False)) <= _ECHOED else None
    except (TypeError, ValueError):
        return None
