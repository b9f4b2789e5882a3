"""What the gateway writes back: JSON bodies passed through as bytes, and the one shape of an error.

    {"error": {"code", "message", "field"?, "retry_after_s"?, "details"?: [{"field", "message"}]}}

The code and the HTTP status come from the table in errors.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from starlette.responses import Response

from sandbox_service.errors import Overloaded, SandboxError, Unauthorized, Unavailable

RETRY_AFTER_S = 1.0
"""Said with 429 and 503 when the error itself does not know better."""


def answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


def answer_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return answer(dump(value), status, headers)


def problem(error: SandboxError, headers: Mapping[str, str] | None = None) -> Response:
    extra = dict(headers or {})
    if (retry := _retry_after(error)) is not None:
        extra["Retry-After"] = str(math.ceil(retry))
    if isinstance(error, Unauthorized):
        extra["WWW-Authenticate"] = "Bearer"
    return answer_json({"error": describe(error)}, error.http, extra)


def describe(error: SandboxError) -> dict[str, object]:
    """Return the inner part of an error body; the terminal frame of a stream uses it too."""
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.field is not None:
        body["field"] = error.field
    if (retry := _retry_after(error)) is not None:
        body["retry_after_s"] = retry
    if error.details:
        body["details"] = [{"field": field, "message": message} for field, message in error.details]
    return body


def dump(value: object) -> bytes:
    # Messages can quote a client's text: what has no UTF-8 form is escaped instead of failing the answer.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _retry_after(error: SandboxError) -> float | None:
    if isinstance(error, Overloaded | Unavailable):
        return error.retry_after_s if error.retry_after_s is not None else RETRY_AFTER_S
    return error.retry_after_s
