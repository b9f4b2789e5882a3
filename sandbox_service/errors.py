"""Errors, and the one table that says what each is on every transport.

    SandboxError
    ├── BadRequest      the request is not valid HTTP, or can be read in two ways
    ├── HeadersTooLarge the request's head is larger than any that is meant well
    ├── InvalidCall     the request is not a valid Call or Batch; the message names the field
    ├── TooLarge        the request is larger than a limit of the service
    ├── TooSlow         the request's body took too long to arrive
    ├── UnsupportedMedia the body is not plain JSON
    ├── WrongMethod     the route exists, but not for this method
    ├── WrongHost       the Host header names another service (guards a keyless one against DNS rebinding)
    ├── Unauthorized    no key, or not a known one
    ├── NotFound        no such call, batch or route (or it belongs to another tenant)
    ├── Conflict        the same id was used before with another body
    ├── ResultGone      the result existed and has passed its time to live
    ├── Overloaded      refused before acceptance: too much is queued; come back after `retry_after_s`
    │   └── QuotaExceeded   the same, for a limit of the tenant's own
    ├── Unavailable     refused before acceptance: a part of the service is missing; come back later
    ├── ServiceFault    our fault, after acceptance or while answering
    └── SetupError      this machine or configuration cannot run the service (never sent over a wire)
        └── InvalidOption   an argument of a client that no request could be sent with (a ValueError as well)

What happened to *code* that ran is never an error: it is a Result with a Status (`models.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class SandboxError(Exception):
    """Base of all errors of this package.

    `field` names the offending field as a dotted path (`calls.3.limits.wall_s`), where there is one; `details` lists
    every (field, message) when there are several.
    """

    code: ClassVar[str] = "error"
    http: ClassVar[int] = 500
    grpc: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1
    """Of a command that ends with this error."""

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        details: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.details = details


class BadRequest(SandboxError):
    code, http, grpc = "bad_request", 400, "INVALID_ARGUMENT"


class HeadersTooLarge(SandboxError):
    code, http, grpc = "headers_too_large", 431, "RESOURCE_EXHAUSTED"


class InvalidCall(SandboxError):
    code, http, grpc, exit_code = "invalid_call", 422, "INVALID_ARGUMENT", 2


class TooLarge(SandboxError):
    code, http, grpc = "too_large", 413, "RESOURCE_EXHAUSTED"


class TooSlow(SandboxError):
    code, http, grpc, retryable = "too_slow", 408, "DEADLINE_EXCEEDED", True


class UnsupportedMedia(SandboxError):
    code, http, grpc = "unsupported_media", 415, "INVALID_ARGUMENT"


class WrongMethod(SandboxError):
    code, http, grpc = "wrong_method", 405, "UNIMPLEMENTED"


class WrongHost(SandboxError):
    code, http, grpc = "wrong_host", 421, "PERMISSION_DENIED"


class Unauthorized(SandboxError):
    code, http, grpc = "unauthorized", 401, "UNAUTHENTICATED"


class NotFound(SandboxError):
    code, http, grpc = "not_found", 404, "NOT_FOUND"


class Conflict(SandboxError):
    code, http, grpc = "conflict", 409, "ALREADY_EXISTS"


class ResultGone(SandboxError):
    code, http, grpc = "result_gone", 410, "NOT_FOUND"


class Overloaded(SandboxError):
    code, http, grpc, retryable = "overloaded", 429, "RESOURCE_EXHAUSTED", True
    holds_s = 0.0
    """How long the tenant's other calls that ask for no more would be refused as well (never sent over a wire)."""


class QuotaExceeded(Overloaded):
    code = "quota_exceeded"


class Unavailable(SandboxError):
    code, http, grpc, retryable = "unavailable", 503, "UNAVAILABLE", True


class ServiceFault(SandboxError):
    code, http, grpc, retryable = "service_fault", 500, "INTERNAL", True


class SetupError(SandboxError):
    code, exit_code = "setup_error", 2


class InvalidOption(SetupError, ValueError):
    code = "invalid_option"


WIRE_ERRORS: tuple[type[SandboxError], ...] = (
    BadRequest,
    HeadersTooLarge,
    InvalidCall,
    TooLarge,
    TooSlow,
    UnsupportedMedia,
    WrongMethod,
    WrongHost,
    Unauthorized,
    NotFound,
    Conflict,
    ResultGone,
    Overloaded,
    QuotaExceeded,
    Unavailable,
    ServiceFault,
)
"""Each error that can reach a client; `code` is unique, so a client maps a body back to its class."""
