"""What is wrong with a document is told in words that go with the name of its field, the best hint first."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sandbox_service.models import Batch, Call
from sandbox_service.reasons import flaws


def _flaws(model: type[Call | Batch], document: Any) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document, strict=True)
    return list(flaws(model, caught.value))


def test_an_unknown_name_is_told_before_the_field_that_is_missing_for_it() -> None:
    """Who reads the first line alone learns what to change."""
    told = _flaws(Call, {"cod": "print(1)"})
    assert told == [("cod", "there is no such field; did you mean code?"), ("code", "is required")]
    assert next(iter(_flaws(Batch, {"call": []})))[1].endswith("did you mean calls?")


@pytest.mark.parametrize(
    ("field", "given", "told"),
    [
        ("code", 1, "must be a string"),
        ("id", "a b", "must be 1 to 64 of the characters A-Za-z0-9_-"),
        ("args", ["x"] * 257, "must have at most 256 items, not 257"),
        ("show_last_value", "yes", "must be true or false"),
        ("env", [], "must be an object"),
        ("seed", 1.5, "must be a whole number"),
        ("compare", "equal", "must be 'exact', 'strip' or 'lines'"),
        ("timeout_s", 0, "must be greater than 0"),
        ("network", "internet", "must be 'none' or 'loopback'"),
    ],
)
def test_a_flaw_is_told_in_plain_words(field: str, given: Any, told: str) -> None:
    assert _flaws(Call, {"code": "", field: given}) == [(field, told)]


@pytest.mark.parametrize(
    ("call", "field", "meant"),
    [
        ({"wall_s": 1}, "wall_s", "limits.wall_s"),
        ({"limits": {"timeout_s": 1}}, "limits.timeout_s", "timeout_s"),
        ({"limits": {"timeout": 1}}, "limits.timeout", None),
    ],
)
def test_a_field_in_the_wrong_place_is_told_its_own(call: dict[str, Any], field: str, meant: str | None) -> None:
    [(named, told)] = _flaws(Call, {"code": "", **call})
    assert named == field
    assert told == f"there is no such field; did you mean {meant}?" if meant else "only wall_s" in told


def test_a_flaw_in_json_is_told_in_plain_words() -> None:
    """pydantic calls a list another name there."""
    with pytest.raises(ValidationError) as caught:
        Call.model_validate_json('{"code": "", "args": "a"}')
    assert list(flaws(Call, caught.value)) == [("args", "must be an array")]


def test_places_are_those_of_the_whole_document() -> None:
    calls = [{"code": ""}, {"code": "", "limits": {"stdin": ""}}]
    assert _flaws(Batch, {"calls": calls}) == [
        ("calls.1.limits.stdin", "there is no such field; did you mean calls.1.stdin?")
    ]
    assert _flaws(Batch, {"code": ""})[0] == ("code", "there is no such field; did you mean calls.code?")


def test_the_name_of_a_label_is_a_place_too() -> None:
    assert _flaws(Call, {"code": "", "labels": {"a b": ""}})[0][0] == "labels.a b"
