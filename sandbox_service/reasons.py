"""Says what is wrong with a document, for whoever wrote it: pydantic's findings, and names that may have been meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_LONGEST = 64
"""Of a name that is compared; a stranger's may be megabytes long."""


_OURS = "Value error, "
"""Stands before the messages of our own checks."""
_OF_CLASS = re.compile(r"should match pattern '\^\[([^]]+)\](?:\{1,(\d+)\}|\+)\$'")
_PLAINLY = {
    "Field required": "is required",
    " after validation": "",
    "a valid integer": "a whole number",
    "a valid boolean": "true or false",
    "a valid dictionary": "an object",
    "a valid array": "an array",
    "a valid ": "a ",
}


def flaws(model: type[BaseModel], error: ValidationError) -> Iterator[tuple[str, str]]:
    """Yield what validating a `model` has found, as (field, what is wrong with it), the best hint first: a field that
    is missing may be there under a name that is not known."""
    findings = error.errors(include_url=False, include_context=False, include_input=False)
    for finding in sorted(findings, key=lambda each: each["type"] != "extra_forbidden"):
        field = ".".join(str(part) for part in finding["loc"] if part != "[key]")
        unknown = finding["type"] == "extra_forbidden"
        yield field, _no_such(model, finding["loc"]) if unknown else wording(finding["msg"])


def wording(message: str) -> str:
    """Return what pydantic says of a value, in words that go with its name."""
    if message.startswith(_OURS):
        return message.removeprefix(_OURS)
    if of := _OF_CLASS.search(message):
        return f"must be {f'1 to {of[2]}' if of[2] else 'one or more'} of the characters {of[1]}"
    said = re.sub(r"^\w+ should ", "must ", message.partition(", unable to parse")[0])
    for theirs, plain in _PLAINLY.items():
        said = said.replace(theirs, plain)
    return said


def _no_such(model: type[BaseModel], place: Sequence[int | str]) -> str:
    *above, name = place
    known = list(_at(model, above).model_fields)
    meant = _elsewhere(model, above, str(name)) or closest(str(name), known)
    return (
        f"there is no such field; did you mean {meant}?"
        if meant
        else f"there is no such field, only {', '.join(known)}"
    )


def _elsewhere(model: type[BaseModel], above: Sequence[int | str], name: str) -> str | None:
    """Return where the field of this name is: inside one of those beside it, or further out."""
    for field, found in _at(model, above).model_fields.items():
        if any(name in inner.model_fields for inner in _models(found.annotation)):
            return f"{field}.{name}"
    for depth in range(len(above) - 1, -1, -1):
        if name in _at(model, above[:depth]).model_fields:
            return ".".join(map(str, (*above[:depth], name)))
    return None


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one, if one is like it."""
    if len(name) > _LONGEST:
        return None
    return next(iter(difflib.get_close_matches(name.lower(), known, 1)), None)


def _at(model: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """Return the model at a place in another one; list indexes and keys of dictionaries lead no deeper."""
    for part in path:
        if isinstance(part, str) and (field := model.model_fields.get(part)) is not None:
            model = next(_models(field.annotation), model)
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
