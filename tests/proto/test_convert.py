"""The contract of gRPC is the contract of HTTP: every field, every word, every default."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sandbox_service.errors import BadRequest, InvalidCall, TooLarge
from sandbox_service.models import (
    Batch,
    Call,
    Check,
    Checked,
    Checks,
    Limits,
    Result,
    Status,
    Ticket,
    Timings,
    Truncated,
    Usage,
    Verdicts,
)
from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.convert import decode, enum_words, to_fields, to_message

ROOT = Path(__file__).parents[2]
MODELS = (Call, Limits, Batch, Result, Truncated, Usage, Timings, Check, Checks, Checked, Verdicts)
TWINS = [(kind, getattr(pb, kind.__name__)) for kind in MODELS]
FULL_CALL = {
    "id": "x",
    "language": "python",
    "code": "print(1)",
    "stdin": "in",
    "args": ["-v"],
    "env": {"A": "b"},
    "files": {"data.bin": "AP8="},
    "fetch": ["out.bin"],
    "timeout_s": 1.5,
    "limits": {"wall_s": 1.0, "cpu_s": 2.0, "memory_mb": 3, "output_kb": 4, "processes": 5, "disk_mb": 6},
    "expected_stdout": "1",
    "compare": "lines",
    "show_last_value": True,
    "seed": 2**32 - 1,
    "network": "loopback",
    "image": "ml",
    "priority": "batch",
    "labels": {"run": "r1"},
}
ONE_VALUE = {"language", "session"}
"""Fields that can have no other value than their default (one word, or reserved)."""
FULL_RESULT = {
    "id": "x",
    "status": "timed_out",
    "exit_code": -9,
    "signal": "SIGKILL",
    "limit": "cpu",
    "retryable": True,
    "stdout": "out",
    "stderr": "err",
    "replaced": {"stdout": True, "stderr": False},
    "truncated": {"stdout": False, "stderr": True},
    "files": {"out.bin": "AP8="},
    "passed": False,
    "usage": {"wall_s": 0.1, "cpu_s": 0.2, "descheduled_s": 0.3, "memory_peak_mb": 0.4},
    "timings": {
        "admitted": 1.0, "queued": 2.0, "dispatched": 3.0, "forked": 4.0, "ran": 5.0, "collected": 6.0, "total": 7.0
    },
    "attempts": 2,
    "worker": "w",
    "image": "sha256:0",
    "labels": {"run": "r1"},
    "message": "why",
}  # fmt: skip


def test_the_generated_code_is_up_to_date() -> None:
    """`python scripts/generate_proto.py` would write what is there."""
    subprocess.run([sys.executable, str(ROOT / "scripts/generate_proto.py"), "--check"], check=True)


@pytest.mark.parametrize(("model", "message"), TWINS, ids=lambda kind: kind.__name__)
def test_no_field_is_missing_on_either_side(model: type[BaseModel], message: Any) -> None:
    """Same names, in the same order."""
    assert [field.name for field in message.DESCRIPTOR.fields] == list(model.model_fields)


@pytest.mark.parametrize(("model", "message"), TWINS, ids=lambda kind: kind.__name__)
def test_what_is_not_set_is_never_taken_for_a_value(model: type[BaseModel], message: Any) -> None:
    """Presence is explicit wherever the model's default is another than the message's zero value."""
    for name, info in model.model_fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.is_repeated or field.has_presence:
            continue
        assert info.is_required() or info.get_default(call_default_factory=True) == field.default_value, name


def words_of(annotation: Any) -> set[str]:
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {word for part in get_args(annotation) if part is not NoneType for word in words_of(part)}


def test_closed_lists_have_the_same_words() -> None:
    """Each enum of the contract is a Literal or an enum of the models."""
    found = 0
    for model, message in [*TWINS, (Ticket, pb.Ticket)]:
        for field in message.DESCRIPTOR.fields:
            if field.type != FieldDescriptor.TYPE_ENUM:
                continue
            found += 1
            annotation = model.model_fields[field.name].annotation
            is_enum = isinstance(annotation, type) and issubclass(annotation, Enum)
            words = {word.value for word in annotation} if is_enum else words_of(annotation)
            assert set(enum_words(field.enum_type).values()) == words, field.name
    assert found == len(pb.DESCRIPTOR.enum_types_by_name) == 7


def test_the_least_call_has_the_models_defaults() -> None:
    """Code alone: all else is as over HTTP."""
    assert Call.model_validate(to_fields(pb.Call(code="1"))) == Call(code="1")
    assert Call.model_validate(to_fields(pb.Call(code="1", compare="COMPARE_UNSPECIFIED"))) == Call(code="1")
    with pytest.raises(ValueError, match="code"):
        Call.model_validate(to_fields(pb.Call()))


def test_a_call_with_every_field_arrives_as_it_was() -> None:
    """There and back; none of these is a default, so none could be lost unseen."""
    call = Call.model_validate(FULL_CALL)
    unset = {name for name, info in Call.model_fields.items() if getattr(call, name) == info.get_default()}
    assert unset == ONE_VALUE
    message = to_message(pb.Call, call.model_dump())
    assert message.files["data.bin"] == b"\x00\xff"
    assert Call.model_validate(to_fields(pb.Call.FromString(message.SerializeToString()))) == call


def test_a_result_with_every_field_arrives_as_it_was() -> None:
    """There and back."""
    result = Result.model_validate(FULL_RESULT)
    assert not [name for name, info in Result.model_fields.items() if getattr(result, name) == info.get_default()]
    message = to_message(pb.Result, json.loads(result.model_dump_json()))
    assert message.status == pb.STATUS_TIMED_OUT
    assert message.files["out.bin"] == b"\x00\xff"
    assert Result.model_validate(to_fields(pb.Result.FromString(message.SerializeToString()))) == result


def test_the_least_result_arrives_as_it_was() -> None:
    """Zeros and empty texts are left out on the way, and come back."""
    result = Result(id="x", status=Status.OK)
    assert Result.model_validate(to_fields(to_message(pb.Result, json.loads(result.model_dump_json())))) == result


def test_a_newer_workers_result_is_served_without_what_the_contract_lacks() -> None:
    """As HTTP clients ignore fields that they do not know."""
    assert to_message(pb.Result, {"id": "x", "status": "ok", "later": 1}).id == "x"


def with_field(message: Any, number: int) -> bytes:
    """The message with one more field of this number, a varint."""
    key = number << 3
    tag = bytes([key & 127 | 128, key >> 7]) if key > 127 else bytes([key])
    return message.SerializeToString() + tag + b"\x01"


def test_unknown_fields_are_refused_by_their_place() -> None:
    """A newer client's wish (a tighter limit, say) is not dropped in silence."""
    inner = pb.Call(code="1")
    inner.limits.MergeFromString(with_field(pb.Limits(), 99))
    batch = pb.Batch(calls=[pb.Call(code="1"), inner])
    for kind, body, place in (
        (pb.Call, with_field(pb.Call(code="1"), 1000), "1000"),
        (pb.Batch, batch.SerializeToString(), "calls.1.limits.99"),
    ):
        with pytest.raises(InvalidCall) as refused:
            decode(kind, body)
        assert refused.value.field == place


def test_unknown_words_are_refused_by_their_place() -> None:
    """What they could be is said."""
    with pytest.raises(InvalidCall, match=r"calls\.0\.compare: 77 is none of COMPARE_EXACT, COMPARE_STRIP") as refused:
        decode(pb.Batch, pb.Batch(calls=[pb.Call(code="1", compare=77)]).SerializeToString())  # type: ignore[arg-type]
    assert refused.value.field == "calls.0.compare"


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x1a\x02\xff\xfe"])
def test_bytes_that_are_no_message_are_a_bad_request(body: bytes) -> None:
    """Cut off, or text that is not UTF-8: the client's fault, not ours."""
    with pytest.raises(BadRequest, match=r"sandbox_service\.v1\.Call"):
        decode(pb.Call, body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (pb.Batch, b"\x12\x00" * 300_000),  # calls
        (pb.Call, pb.Call(args=[""]).SerializeToString() * 300_000),
        (pb.Batch, pb.Batch(calls=[pb.Call(args=[""] * 1000)] * 250).SerializeToString()),
        (pb.Batch, pb.Batch(calls=[pb.Call(env={str(n): "" for n in range(30_000)})] * 7).SerializeToString()),
        (pb.Call, b"\x08\x00" * 300_000),  # a field that is no list, again and again
        (pb.Call, b"\x09" + bytes(8) + b"\x0d" + bytes(4) + b"\x08\x00" * 300_000),
    ],
    ids=["messages", "texts", "texts in messages", "pairs in messages", "repetitions", "fixed sizes first"],
)
def test_millions_of_items_are_refused_before_they_are_read(kind: type[Any], body: bytes) -> None:
    """Two bytes are enough for one; 16 MiB of them held the gateway for ten seconds, and a gigabyte of memory."""
    with pytest.raises(TooLarge, match="split the batch"):
        decode(kind, body)


def test_large_requests_of_few_items_are_read() -> None:
    """The largest batch, and texts of any size and any bytes."""
    batch = pb.Batch(calls=[pb.Call(code="x\x12\x00" * 1000, args=["a"] * 100, env={"A": "b"})] * 1024)
    assert len(decode(pb.Batch, batch.SerializeToString()).calls) == 1024
    files = pb.Call(code="1", files={"a": b"\x12\x00" * 4_000_000})
    assert len(decode(pb.Call, files.SerializeToString()).files["a"]) == 8_000_000


@given(st.binary(max_size=60_000))
def test_any_bytes_are_a_message_or_refused(body: bytes) -> None:
    """Also those that end within a number or a field."""
    with contextlib.suppress(BadRequest, InvalidCall, TooLarge):
        decode(pb.Batch, b"\x00" * 16_384 + body)
