"""Says what is wrong with a document, for whoever wrote it: pydantic's findings, and names that may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

_LONGEST = 64
"""Of a name that is compared; a stranger's may be megabytes long."""


def reason(model: type[BaseModel], finding: Mapping[str, Any]) -> str:
    """Return the message of one of the errors that validating a `model` has found."""
    if finding["type"] != "extra_forbidden":
        return str(finding["msg"]).removeprefix("Value error, ")
    *above, name = finding["loc"]
    known = list(_at(model, above).model_fields)
    meant = closest(str(name), known)
    return (
        f"there is no such field; did you mean {meant}?"
        if meant
        else f"there is no such field, only {', '.join(known)}"
    )


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
