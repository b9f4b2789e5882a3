"""Request bodies: from untrusted bytes to a validated model, or to an error that names the field.

Owns what the schema cannot say: the size is counted while the body arrives (Content-Length may lie or be absent),
the media type is plain JSON, it has no more values than a parser takes in moments, no key appears twice in an object.
Depth, unknown fields, wrong types, NaN and oversized numbers are refused by the models themselves, which are strict and
at most five levels deep.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from sandbox_service.errors import InvalidCall, TooLarge, TooSlow, UnsupportedMedia
from sandbox_service.reasons import flaws

BODY_S = 60.0
"""A body that takes longer than this to arrive is refused."""
MAX_VALUES = 200_000
"""Of JSON in a body. An object's pairs and a list's items count; 16,384 submissions of a code-judge batch fit."""
MAX_DEPTH = 32
MAX_DIGITS = 32
MAX_DETAILS = 20
MAX_ERRORS = 2000
_INVALID = "Invalid JSON"

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, model: type[M], max_bytes: int) -> M:
    """Read the body as `model`. Raise UnsupportedMedia, TooLarge, TooSlow, InvalidCall, or ClientDisconnect."""
    return parse(model, await read_unparsed(request, max_bytes))


async def read_unparsed(request: Request, max_bytes: int) -> bytes:
    """Read a body that claims to be JSON. Raise as `read_json`, but for InvalidCall."""
    _check_media(request)
    return await read_body(request, max_bytes)


def parse(model: type[M], body: bytes) -> M:
    """Validate strictly (a string is not a number) and refuse duplicate keys, which parsers read differently."""
    try:
        value = model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise invalid_call(model, error, body) from None
    try:
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except _DuplicateKey:
        field, reason = _first_flaw(body)
        raise InvalidCall(_sentence(field, reason), field=field) from None
    return value


def _check_media(request: Request) -> None:
    media, *parameters = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    if media != "application/json":
        raise UnsupportedMedia("send the body as JSON, with the header Content-Type: application/json")
    for name, _, value in (parameter.partition("=") for parameter in parameters):
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMedia("send the body in UTF-8, the one encoding of JSON (RFC 8259, 8.1)")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedMedia("compressed bodies are not accepted; send it without Content-Encoding")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read the body as it is: JSON of at most MAX_VALUES values. Raise TooLarge, TooSlow or ClientDisconnect."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(BODY_S):
            body = await _collect(request, max_bytes)
    except TimeoutError:
        raise TooSlow(f"the body did not arrive within {BODY_S:.0f} s") from None
    if has_too_many_values(body):
        raise TooLarge(f"the body has more than {MAX_VALUES:,} JSON values; split the batch")
    return body


async def _collect(request: Request, max_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        # SECURITY: counted as it arrives, so that a lying or absent length costs no memory (test_body.py).
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {max_bytes // 2**20} MiB; split the batch, or raise SANDBOX_MAX_BODY_MB")


def has_too_many_values(document: bytes) -> bool:
    """Whether JSON has more than MAX_VALUES; of what is no JSON, as far as a parser could get, it is never too few.

    SECURITY: a parser holds the interpreter for up to a microsecond per value, and millions fit a body (test_body.py).
    """
    if len(document) <= MAX_VALUES or _separators(document) < MAX_VALUES:
        return False
    # Many of them may stand in texts. Where no text has an escape, it is what lies between two quotation marks.
    bare = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    return bare.count(b'"') > 4 * MAX_VALUES or _separators(b"".join(bare.split(b'"')[::2])) >= MAX_VALUES


def _separators(body: bytes) -> int:
    """Count what stands before each value but the first."""
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def invalid_call(model: type[BaseModel], error: ValidationError, body: bytes = b"") -> InvalidCall:
    """Turn pydantic's findings into one error whose message names the first field and whose details name them all."""
    # SECURITY: a body can hold a million errors, and each would be described before the first is used
    # (tests/gateway: `test_a_million_errors_are_not_described`).
    if error.error_count() > MAX_ERRORS:
        return InvalidCall(f"the body has {error.error_count()} errors: it is nothing like what is expected here")
    found = list(islice(flaws(model, error), MAX_DETAILS))
    if found[0][1].startswith(_INVALID):
        field, reason = _first_flaw(body)
        found = [(field, reason or found[0][1])]
    details = [(field[:300], reason[:500]) for field, reason in found]
    field, reason = details[0]
    return InvalidCall(_sentence(field, reason), field=field or None, details=details)


def _sentence(field: str, reason: str) -> str:
    return f"{field}: {reason}" if field else reason if reason.startswith(_INVALID) else f"the body {reason}"


class _DuplicateKey(ValueError):
    pass


class _Flaw:
    """Stands in a parsed document for what may not be there."""

    def __init__(self, reason: str, key: str = "") -> None:
        self.reason, self.key = reason, key


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _DuplicateKey


def _first_flaw(body: bytes) -> tuple[str, str]:
    """Parse a document that was already refused once more, slowly, to name the field; ("", "") if none can be named."""
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=_object_or_flaw,
            parse_constant=lambda text: _Flaw(f"{text} is not a JSON number"),
            parse_int=lambda text: int(text) if len(text) <= MAX_DIGITS else _Flaw("has too many digits"),
        )
    except RecursionError:
        return "", f"is nested deeper than {MAX_DEPTH} levels"
    except ValueError:  # not JSON or not UTF-8 at all: the first parser has said where
        return "", ""
    return next(_flaws(document, ()), ("", ""))


def _object_or_flaw(pairs: list[tuple[str, object]]) -> object:
    seen: dict[str, object] = {}
    for key, value in pairs:
        if key in seen:
            return _Flaw("appears twice in one object", key)
        seen[key] = value
    return seen


def _flaws(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    field = ".".join(path)
    if isinstance(value, _Flaw):
        yield ".".join((*path, value.key)) if value.key else field, value.reason
    elif len(path) > MAX_DEPTH:
        yield ".".join(path[:8]) + "...", f"is nested deeper than {MAX_DEPTH} levels"
    elif isinstance(value, str):
        if not _encodable(value):
            yield field, "holds a lone surrogate, which is not valid Unicode text"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if not _encodable(key):
                yield field, "has a key with a lone surrogate, which is not valid Unicode text"
                return
            yield from _flaws(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _flaws(inner, (*path, str(index)))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
