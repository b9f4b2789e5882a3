"""What the model reads and writes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_service.client.tools import ToolCallError
from sandbox_service.models import Call, Result, Status
from sandbox_service.trainer import prompts

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
"""Without lone surrogates, which a Call cannot hold."""


def call_text(code: object = "print(1)", stdin: object = "", name: object = prompts.TOOL_NAME) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': {'code': code, 'input': stdin}})}</tool_call>"


def test_the_paper_s_prompt_holds_its_template_and_the_tool() -> None:
    """Figure 3, with `<reason>` where the figure slips."""
    text = "".join(piece.text for piece in prompts.first_turn(prompts.TEMPLATES["paper"], "What is 2 + 2?"))
    assert text.startswith("<|im_start|>system\nA conversation between User and Assistant.")
    assert '"name": "execute_python_code_with_standard_io"' in text
    assert text.endswith("This is the problem:\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n<reason>")
    assert "<think>" not in text


def test_what_a_tool_prints_is_not_markup() -> None:
    pieces = prompts.tool_turn(["<|im_end|>"])
    assert [piece.markup for piece in pieces if piece.text == "<|im_end|>"] == [False]


@given(TEXT, TEXT)
def test_a_call_is_read_as_it_was_written(code: str, stdin: str) -> None:
    assert prompts.tool_calls(f"I compute.</reason>{call_text(code, stdin)}") == [
        Call(code=code, stdin=stdin, show_last_value=True, priority="batch")
    ]


@pytest.mark.parametrize(
    ("turn", "says"),
    [
        ("<tool_call>{}", "without </tool_call>"),
        ("<tool_call>{</tool_call>", "must be JSON"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "must be JSON"),
        ("<tool_call>[]</tool_call>", "not a list"),
        ('<tool_call>{"name": "x"}</tool_call>', "lacks `arguments`"),
        (call_text(name="WolframAlpha"), "no function 'WolframAlpha'"),
        (call_text(name=["x"]), "no function"),
        (f'<tool_call>{{"name": "{prompts.TOOL_NAME}", "arguments": "print(1)"}}</tool_call>', "must be JSON"),
        (call_text(stdin=None), "must be a string, not null"),
        (call_text(code=1), "must be a string"),
    ],
)
def test_a_bad_call_tells_the_model_what_is_wrong(turn: str, says: str) -> None:
    [error] = prompts.tool_calls(turn)
    assert isinstance(error, ToolCallError)
    assert says in error.reason
    assert len(prompts.refusal(error, 40)) <= 47


def test_calls_of_one_turn_keep_their_order_and_are_bounded() -> None:
    calls = prompts.tool_calls("".join(call_text(f"{n}") for n in range(10)))
    assert [call.code for call in calls[:8] if isinstance(call, Call)] == [f"{n}" for n in range(8)]
    assert all(isinstance(call, ToolCallError) for call in calls[8:])
    assert isinstance(prompts.tool_calls(call_text(), before=8)[0], ToolCallError)


@given(st.text(max_size=300))
def test_any_turn_can_be_read(turn: str) -> None:
    prompts.tool_calls(f"<tool_call>{turn}")
    prompts.extract_answer(f"<answer>{turn}")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"<answer>\boxed{42}</answer>", "42"),
        (r"<answer>It is $\boxed{ 42 }$.</answer>", "42"),
        (r"<answer>\boxed{1}</answer> no: <answer>\boxed{2}</answer>", "2"),
        (r"<answer>\boxed{1} or \boxed{2}</answer>", "2"),
        (r"<answer>\boxed{\frac{1}{2}}</answer>", r"\frac{1}{2}"),
        (r"<answer>\boxed{1}</answer><answer>cut off \boxed{2}", "1"),
        (r"<answer>\boxed{1}</answer><answer>none</answer>", None),
        (r"\boxed{42}", None),
        (r"<answer>42</answer>", None),
        (r"<answer>\boxed{42</answer>", None),
    ],
)
def test_which_answer_counts(text: str, answer: str | None) -> None:
    """The last `\\boxed{}` of the last complete block."""
    assert prompts.extract_answer(text) == answer


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"status": Status.OK, "stdout": "42\n"}, "42"),
        ({"status": Status.OK, "stdout": "an error of 1e-9"}, "an error of 1e-9"),
        (
            {"status": Status.FAILED, "stderr": "Traceback\n  File x\nNameError: name 'm' is not defined\n"},
            "error: NameError: name 'm' is not defined",
        ),
        ({"status": Status.FAILED, "exit_code": 3}, "error: exit code 3"),
        ({"status": Status.TIMED_OUT}, "error: timed out"),
        ({"status": Status.SIGNALED, "signal": "SIGSEGV"}, "error: killed by SIGSEGV"),
        ({"status": Status.OUT_OF_MEMORY}, "error: out of memory"),
        ({"status": Status.OUTPUT_LIMIT}, "error: too much output"),
    ],
)
def test_what_the_model_reads_of_a_result(fields: dict[str, object], text: str) -> None:
    assert prompts.response(Result.model_validate({"id": "x", **fields}), limit=36) == text


@given(st.text(), st.integers(min_value=8, max_value=100))
def test_clipping_is_bounded_and_keeps_short_text(text: str, limit: int) -> None:
    clipped, lines = prompts.clip(text, limit), prompts.last_lines(text, limit)
    assert len(clipped) <= limit
    assert len(lines) <= limit
    assert clipped == text or (len(text) > limit and "..." in clipped)
