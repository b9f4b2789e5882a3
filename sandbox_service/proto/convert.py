"""Between the messages of `sandbox.proto` and the fields of `models.py`, by the descriptors: no field is named here.

Two things are written differently: bytes of files are base64 in the models, and the words of closed lists ("strip")
are enum values (COMPARE_STRIP). A field that is not set is left out, so the models give their own defaults.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sandbox_service.errors import BadRequest, InvalidCall

M = TypeVar("M", bound=Message)


def decode(kind: type[M], body: bytes) -> M:
    """Read a request. Raise BadRequest if it is no such message, InvalidCall if it has what this service does not know.

    Protocol buffers would drop such fields silently, and with them perhaps a limit that somebody relies on.
    """
    try:
        message: M = kind.FromString(body)
    except DecodeError as error:
        raise BadRequest(f"the message is not a valid {kind.DESCRIPTOR.full_name}") from error
    _check(message, "")
    return message


def to_fields(message: Message) -> dict[str, Any]:
    """Return the fields that are set, as the models take them; without words that this side does not know."""
    plan = _plan(message.DESCRIPTOR)
    fields = {field.name: plan[field.name].to_model(value) for field, value in message.ListFields()}
    return {name: value for name, value in fields.items() if value is not None}


def to_message(kind: type[M], fields: Mapping[str, Any]) -> M:
    """Return a message with these fields of a model. What the message has no place for is left out."""
    message: M = kind(**_message_fields(kind.DESCRIPTOR, fields))
    return message


def enum_words(enum: EnumDescriptor) -> dict[int, str]:
    """Return the words of a closed list as the models have them; 0 stands for "not set" and has none."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values if value.number}


@dataclass(frozen=True)
class _Codec:
    """How one field's value changes on its way."""

    to_model: Callable[[Any], Any]
    to_message: Callable[[Any], Any]
    messages: Callable[[Any], Iterable[tuple[str, Message]]] = lambda _value: ()
    """The messages inside the field's value, each with its place behind the field's name."""


def _message_fields(kind: Descriptor, fields: Mapping[str, Any]) -> dict[str, Any]:
    plan = _plan(kind)
    return {name: codec.to_message(value) for name, codec in plan.items() if (value := fields.get(name)) is not None}


@cache
def _plan(kind: Descriptor) -> dict[str, _Codec]:
    return {field.name: _codec(field) for field in kind.fields}


def _codec(field: FieldDescriptor) -> _Codec:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        if inner.fields_by_name["value"].type == FieldDescriptor.TYPE_BYTES:
            return _Codec(
                lambda files: {path: base64.b64encode(content).decode() for path, content in files.items()},
                lambda files: {path: base64.b64decode(content) for path, content in files.items()},
            )
        return _Codec(dict, dict)
    if inner is not None and field.is_repeated:
        return _Codec(
            lambda messages: [to_fields(message) for message in messages],
            lambda values: [_message_fields(inner, value) for value in values],
            lambda messages: ((f".{index}", message) for index, message in enumerate(messages)),
        )
    if inner is not None:
        return _Codec(to_fields, lambda value: _message_fields(inner, value), lambda message: [("", message)])
    if field.enum_type is not None:
        words = enum_words(field.enum_type)
        numbers = {word: number for number, word in words.items()}
        return _Codec(words.get, numbers.__getitem__)
    if field.is_repeated:
        return _Codec(list, list)
    return _Codec(_same, _same)


def _same(value: Any) -> Any:
    return value


def _check(message: Message, path: str) -> None:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        name = f"{path}{unknown[0].field_number}"
        raise InvalidCall(f"{name}: this service knows no field of this number; is the client newer?", field=name)
    plan = _plan(message.DESCRIPTOR)
    for field, value in message.ListFields():
        name = path + field.name
        if field.enum_type is not None and value not in field.enum_type.values_by_number:
            known = ", ".join(each.name for each in field.enum_type.values if each.number)
            raise InvalidCall(f"{name}: {value} is none of {known}", field=name)
        for place, inner in plan[field.name].messages(value):
            _check(inner, f"{name}{place}.")
