"""Between the messages of `sandbox.proto` and the fields of `models.py`, by the descriptors: no field is named here.

Two things are written differently: bytes of files are base64 in the models, and the words of closed lists ("strip")
are enum values (COMPARE_STRIP). A field that is not set is left out, so the models give their own defaults.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sandbox_service.errors import BadRequest, InvalidCall, TooLarge

M = TypeVar("M", bound=Message)

MAX_ITEMS = 200_000
"""Of all lists and maps of a request together. Each costs about a microsecond, and two bytes are enough for one."""
MAX_FIELDS = 16_384
"""Of a request at its top, each item of a list counted: a message within it costs a hundred bytes of memory."""


def decode(kind: type[M], body: bytes) -> M:
    """Read a request. Raise BadRequest if it is no such message, TooLarge if it holds more than is read at once,
    InvalidCall if it has what this service does not know.

    Protocol buffers would drop such fields silently, and with them perhaps a limit that somebody relies on.
    """
    # SECURITY: before anything is made of them (test_convert.py: `test_millions_of_items_...`).
    if len(body) > MAX_FIELDS and _has_many_fields(body):
        raise TooLarge(f"the message has more than {MAX_FIELDS:,} fields; split the batch")
    try:
        message: M = kind.FromString(body)
    except DecodeError as error:
        raise BadRequest(f"the message is not a valid {kind.DESCRIPTOR.full_name}") from error
    _check(message, "", iter(range(MAX_ITEMS)))
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


def _has_many_fields(body: bytes) -> bool:
    """Walk over the fields of a message (protobuf.dev, "Encoding"), not into them."""
    position = 0
    for _ in range(MAX_FIELDS):
        tag, position = _varint(body, position)
        size = 0
        if tag & 7 == 2:  # texts, bytes, messages
            size, position = _varint(body, position)
        elif tag & 7 == 0:
            _, position = _varint(body, position)
        else:
            size = 8 if tag & 7 == 1 else 4
        position += size
        if position >= len(body):
            return False
    return True


def _varint(body: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(body):
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift >= 64:
            break
    return value, position


def _check(message: Message, path: str, items_left: Iterator[int]) -> None:
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
        if field.is_repeated and next(islice(items_left, len(value) - 1, None), None) is None:
            raise TooLarge(f"{name}: the message has more than {MAX_ITEMS:,} items; split the batch")
        for place, inner in plan[field.name].messages(value):
            _check(inner, f"{name}{place}.", items_left)
