"""What a model may call, and what it reads of the answer: it learns from these texts, so each is fixed here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from sandbox_service.client.tools import TOOL, TOOL_NAME, ToolCallError, to_call, to_text
from sandbox_service.errors import InvalidCall, ServiceFault
from sandbox_service.models import Call, Result, Status, Truncated

USAGE = f'\n\nCall {TOOL_NAME} with a JSON object of two strings: {{"code": "...", "input": "..."}}'
ARGUMENTS = {"code": "print(input())", "input": "hi"}
TRACEBACK = """\
Traceback (most recent call last):
  File "main.py", line 1, in <module>
    1 / 0
    ~~^~~
ZeroDivisionError: division by zero
"""


def result(status: Status, **fields: Any) -> Result:
    return Result(id="x", status=status, **fields)


class Function(BaseModel):
    name: str
    arguments: str


class ToolCall(BaseModel):
    """The shape of an entry of `tool_calls` as OpenAI's client has it."""

    id: str
    type: str = "function"
    function: Function


FORMS = {
    "openai object": ToolCall(id="c", function=Function(name=TOOL_NAME, arguments=json.dumps(ARGUMENTS))),
    "openai json": {"id": "c", "type": "function", "function": {"name": TOOL_NAME, "arguments": json.dumps(ARGUMENTS)}},
    "tag text": json.dumps({"name": TOOL_NAME, "arguments": ARGUMENTS}),
    "tag parsed": {"name": TOOL_NAME, "arguments": ARGUMENTS},
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_tool_call_becomes_the_same_call(form: str) -> None:
    """With the caller's own fields; the value of a last expression is shown, as the paper says."""
    call = to_call(FORMS[form], limits={"wall_s": 3}, labels={"step": "1"})  # type: ignore[arg-type]
    assert call == Call.model_validate(
        {
            "code": "print(input())",
            "stdin": "hi",
            "show_last_value": True,
            "limits": {"wall_s": 3},
            "labels": {"step": "1"},
        }
    )


def test_the_schema_is_what_the_helper_takes() -> None:
    """Name, required arguments and no others: paper.md, section 4."""
    function = TOOL["function"]
    assert function["name"] == "execute_python_code_with_standard_io"
    assert function["parameters"]["required"] == list(function["parameters"]["properties"]) == ["code", "input"]
    assert to_call({"name": function["name"], "arguments": {"code": "1", "input": ""}}).code == "1"


MALFORMED = {
    "the call must be JSON: Expecting ',' delimiter at line 1, column 31 ('print(1)\"')": '{"name": "x", "arguments": "'
    '" print(1)"',
    "the call must be a JSON object with `name` and `arguments`, not a list": "[]",
    "the call lacks `name`": "{}",
    "the call lacks `arguments`": {"name": TOOL_NAME},
    "there is no function 'python'": {"name": "python", "arguments": ARGUMENTS},
    "`arguments` must be a JSON object, not null": {"name": TOOL_NAME, "arguments": None},
    "the arguments must be JSON: Unterminated string starting at at line 1, column 10 ('\"print(')": {
        "name": TOOL_NAME,
        "arguments": '{"code": "print(',
    },
    "`arguments` must be a JSON object, not a string": {"name": TOOL_NAME, "arguments": '"print(1)"'},
    "the argument `code` is missing": {"name": TOOL_NAME, "arguments": {"input": ""}},
    "the argument `input` is missing": {"name": TOOL_NAME, "arguments": {"code": ""}},
    "the argument `code` must be a string, not a list": {"name": TOOL_NAME, "arguments": {"code": ["1"], "input": ""}},
    "the argument `input` must be a string, not a number": {"name": TOOL_NAME, "arguments": {"code": "1", "input": 7}},
    "there is no argument 'language'": {"name": TOOL_NAME, "arguments": {**ARGUMENTS, "language": "python"}},
    "`code` holds a lone surrogate, which is not valid Unicode text": json.dumps(
        {"name": TOOL_NAME, "arguments": {"code": "\ud800", "input": ""}}
    ),
    "`code` is 262145 bytes long; at most 262144 are allowed": {
        "name": TOOL_NAME,
        "arguments": {"code": "#" * 262_145, "input": ""},
    },
}


@pytest.mark.parametrize("reason", MALFORMED)
def test_a_call_that_is_none_is_told_to_the_model(reason: str) -> None:
    """What is wrong and how it is done; not an error of the program that uses the helper."""
    with pytest.raises(ToolCallError) as told:
        to_call(MALFORMED[reason])  # type: ignore[arg-type]
    assert str(told.value) == f"Tool call failure: {reason}{USAGE}"


@given(
    st.text()
    | st.recursive(st.none() | st.booleans() | st.text(), lambda t: st.lists(t) | st.dictionaries(st.text(), t))
)
def test_no_call_breaks_the_helper(call: Any) -> None:
    """Whatever a model writes is a Call or a text for it."""
    with pytest.raises(ToolCallError):
        to_call(call)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": ' + "9" * 10_000 + "}"])
def test_json_that_python_does_not_take_is_told_to_the_model(text: str) -> None:
    """Too deep, or a number too long to convert."""
    with pytest.raises(ToolCallError, match="nested too deeply or holds too large a number"):
        to_call(text)


def test_a_wrong_field_of_the_caller_is_not_the_models_fault() -> None:
    """It raises what the client raises."""
    with pytest.raises(InvalidCall, match=r"limits\.wall_s"):
        to_call(FORMS["tag parsed"], limits={"wall_s": -1})  # type: ignore[arg-type]


GOLDEN = [
    (result(Status.OK, stdout="42\n"), "Tool call success\n\nstdout:\n42"),
    (result(Status.OK), "Tool call success\n\n(no output)"),
    (result(Status.OK, stdout="1\n", stderr="a warning\n"), "Tool call success\n\nstdout:\n1"),
    (result(Status.OK, stderr="logged\n"), "Tool call success\n\nstderr:\nlogged"),
    (
        result(Status.FAILED, exit_code=1, stderr=TRACEBACK),
        f"Tool call failure: the code ended with exit code 1\n\nstderr:\n{TRACEBACK.rstrip()}",
    ),
    (
        result(Status.FAILED, exit_code=3, stdout="so far\n"),
        "Tool call failure: the code ended with exit code 3\n\nstdout:\nso far",
    ),
    (
        result(Status.SIGNALED, signal="SIGSEGV"),
        "Tool call failure: the code was ended by SIGSEGV\n\n(no output)",
    ),
    (
        result(Status.SIGNALED, signal="SIGSYS"),
        "Tool call failure: the code was ended by SIGSYS: it made a system call that is not allowed here"
        "\n\n(no output)",
    ),
    (
        result(Status.TIMED_OUT, limit="wall", stdout="1\n2\n"),
        "Tool call failure: the code timed out: it reached its limit of wall-clock time\n\nstdout:\n1\n2",
    ),
    (
        result(Status.TIMED_OUT, limit="cpu"),
        "Tool call failure: the code timed out: it reached its limit of CPU time\n\n(no output)",
    ),
    (
        result(Status.OUT_OF_MEMORY, limit="memory"),
        "Tool call failure: the code ran out of memory\n\n(no output)",
    ),
    (
        result(Status.OUTPUT_LIMIT, limit="output", stdout="aaa", truncated=Truncated(stdout=True)),
        "Tool call failure: the code was stopped because it wrote far too much output\n"
        "Note: stdout was longer than the service keeps; its end is missing.\n\n"
        "stdout:\naaa\n[the rest was not kept]",
    ),
    (
        result(Status.EXPIRED),
        "Tool call failure: the code was not run: the time to wait for its result was over before it could start"
        "\n\n(no output)",
    ),
    (
        result(Status.CANCELLED, limit="deadline"),
        "Tool call failure: the code was stopped: the time to wait for its result was over\n\n(no output)",
    ),
    (
        result(Status.CANCELLED),
        "Tool call failure: the code was stopped because the call was cancelled\n\n(no output)",
    ),
]


@pytest.mark.parametrize(("given_result", "text"), GOLDEN, ids=[r.status.value for r, _ in GOLDEN])
def test_what_a_model_reads(given_result: Result, text: str) -> None:
    """Stable to the letter: a policy is trained on these."""
    assert to_text(given_result) == text


def test_every_status_has_its_text() -> None:
    """infra_error has none: it must never become a tool's answer."""
    assert {r.status for r, _ in GOLDEN} == set(Status) - {Status.INFRA_ERROR}
    with pytest.raises(ServiceFault, match="a jail broke") as fault:
        to_text(result(Status.INFRA_ERROR, message="a jail broke"))
    assert fault.value.retryable


def test_long_output_loses_its_middle() -> None:
    """Beginning and end stay, and how much is missing is said twice: in the head, and at the place."""
    text = to_text(result(Status.OK, stdout="a" * 60 + "b" * 40 + "\n"), max_chars=21)
    assert text == (
        "Tool call success\nNote: 79 of 100 characters of stdout are left out in the middle.\n\n"
        f"stdout:\n{'a' * 11}\n[79 characters left out]\n{'b' * 10}"
    )
    assert "Note" not in to_text(result(Status.OK, stdout="a" * 21 + "\n"), max_chars=21)
    assert to_text(result(Status.OK, stdout="abc"), max_chars=0).endswith("stdout:\n\n[3 characters left out]\n")


FORGERIES = st.lists(
    st.sampled_from(
        [
            "Tool call success",
            "Tool call failure: the code timed out",
            "\n",
            "\n\n",
            "stdout:",
            "stderr:",
            "Note: 5 of 9",
            "[5 characters left out]",
            "[the rest was not kept]",
            "(no output)",
            "x",
        ]
    )
).map("".join)


@given(FORGERIES, FORGERIES, st.sampled_from(sorted(set(Status) - {Status.INFRA_ERROR})), st.integers(0, 30))
def test_output_that_imitates_the_texts_changes_nothing(stdout: str, stderr: str, status: Status, most: int) -> None:
    """The head depends on status and lengths alone: the same for any other output as long as this one."""
    plain = {"stdout": "".join("\n" if c == "\n" else "x" for c in stdout)}
    plain["stderr"] = "".join("\n" if c == "\n" else "x" for c in stderr)
    forged = to_text(result(status, stdout=stdout, stderr=stderr), max_chars=most)
    harmless = to_text(result(status, **plain), max_chars=most)
    assert forged.partition("\n\n")[0] == harmless.partition("\n\n")[0]
    assert forged.startswith("Tool call success") == (status is Status.OK)
    assert len(forged) == len(harmless)
