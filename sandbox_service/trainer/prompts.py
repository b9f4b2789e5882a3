"""What the model reads and writes: the prompt, tool calls, tool responses, the answer. Pure text, no I/O.

After the paper's section 2.1 and figures 2 and 3. A turn ends at `<|im_end|>`; each assistant turn begins inside
`<reason>` (the paper prints `<think>` there, a slip that its authors confirmed). Text that others wrote (questions,
tool output) travels apart from markup, so that a program that prints `<|im_end|>` cannot end a turn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from sandbox_service.client.tools import TOOL, TOOL_NAME, ToolCallError, to_call
from sandbox_service.models import Call, Result, Status

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
CALL_HEAD = f'{{"name": "{TOOL_NAME}", "arguments": {{"code": "'
CALL_TAIL = '", "input": ""}}'
TOOL_CALL_END = "</tool_call>"
MARKUP = (
    IM_START, IM_END, "<reason>", "</reason>", "<answer>", "</answer>",
    "<tool_call>", TOOL_CALL_END, "<tool_response>", "</tool_response>",
)  # fmt: skip
CALLS_PER_TURN = 8
"""More calls than this in one turn are answered with an error instead of being run."""


class Piece(NamedTuple):
    """A stretch of a prompt. In markup `<|im_end|>` is that token; in other text it is ten characters."""

    text: str
    markup: bool = True


class Template(NamedTuple):
    """How a question is put to the model. An empty `system` leaves that turn out."""

    system: str
    before: str
    after: str = ""


_PAPER_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The Assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <reason> </reason> and <answer> </answer> tags, respectively, i.e., "
    "<reason> reasoning process here </reason><answer> answer here </answer>.\n\n# Tools\n\nYou may call one or more "
    "functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML "
    f"tags:\n<tools>\n{json.dumps(TOOL)}\n</tools>\n\nFor each function call, return a json object with "
    "function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
TEMPLATES = {
    "paper": Template(
        _PAPER_SYSTEM,
        "You must put your answer inside <answer> </answer> tags, i.e., <answer> answer here </answer>. And your final "
        "answer will be extracted automatically by the \\boxed{} tag.\nThis is the problem:\n",
    ),
    # For a model of a million parameters, which learns the format from its SFT and has no tokens to spare.
    "short": Template("", ""),
}


def first_turn(template: Template, question: str) -> list[Piece]:
    """The prompt of a rollout, up to and with the `<reason>` that the assistant goes on from."""
    system = [Piece(f"{IM_START}system\n"), Piece(template.system, False), Piece(f"{IM_END}\n")]
    asked = Piece(template.before + question + template.after, False)
    return [*(system if template.system else []), Piece(f"{IM_START}user\n"), asked, _assistant()]


def tool_turn(responses: Sequence[str]) -> list[Piece]:
    """What stands between an assistant turn that made tool calls and the next one: their outputs, as the user."""
    inner = [
        piece
        for text in responses
        for piece in (Piece("<tool_response>"), Piece(text, False), Piece("</tool_response>"))
    ]
    return [Piece(f"\n{IM_START}user\n"), *inner, _assistant()]


def _assistant() -> Piece:
    return Piece(f"{IM_END}\n{IM_START}assistant\n<reason>")


_CALL = re.compile(r"<tool_call>(.*?)(</tool_call>|\Z)", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def tool_calls(turn: str, before: int = 0) -> list[Call | ToolCallError]:
    """All tool calls of an assistant turn, or of a part of it after `before` others, in order.

    The Calls lack the caller's part (limits, labels). A ToolCallError goes back to the model.
    """
    found = [_tool_call(match[1], closed=bool(match[2])) for match in _CALL.finditer(turn)]
    refused = ToolCallError(f"only {CALLS_PER_TURN} tool calls are run in one turn")
    return [call if before + index < CALLS_PER_TURN else refused for index, call in enumerate(found)]


def call_bodies(turn: str) -> list[str]:
    """What stands inside each `<tool_call>` of a turn, well-formed or not."""
    return [match[1] for match in _CALL.finditer(turn)]


def _tool_call(body: str, *, closed: bool) -> Call | ToolCallError:
    if not closed:
        return ToolCallError("<tool_call> without </tool_call>")
    try:
        return to_call(body, priority="batch")
    except ToolCallError as error:
        return error


_FAULTS = {
    Status.SIGNALED: "killed by {signal}",
    Status.TIMED_OUT: "timed out",
    Status.OUT_OF_MEMORY: "out of memory",
    Status.OUTPUT_LIMIT: "too much output",
}


def refusal(error: ToolCallError, limit: int) -> str:
    """What the model reads when its call could not be read: at most about `limit` characters."""
    return "error: " + last_lines(error.reason, limit)


def response(result: Result, limit: int) -> str:
    """What the model reads of a Result: at most about `limit` characters.

    The paper's four outcomes: the output; for a program without any, the value of its last expression (the service
    prints that); for an error its traceback, of which the end matters; a time-out.
    """
    if result.status is Status.OK:
        return clip(result.stdout.strip(), limit)
    if result.status is Status.FAILED:
        return "error: " + last_lines(result.stderr.strip() or f"exit code {result.exit_code}", limit)
    return "error: " + _FAULTS[result.status].format(signal=result.signal)


def clip(text: str, limit: int) -> str:
    """Shorten to `limit` characters by leaving out the middle."""
    if len(text) <= limit:
        return text
    return text[: limit - limit // 2 - 3] + "..." + text[len(text) - limit // 2 :]


def last_lines(text: str, limit: int) -> str:
    """The last whole lines that fit; of a single line that does not, its beginning."""
    kept = ""
    for line in reversed(text.splitlines()):
        if kept and len(line) + 1 + len(kept) > limit:
            break
        kept = f"{line}\n{kept}" if kept else line[:limit]
    return kept


def count_answers(text: str) -> int:
    """How many `<answer>` tags the model wrote."""
    return text.count("<answer>")


def extract_answer(text: str) -> str | None:
    r"""The content of the last `\boxed{}` in the last complete `<answer>` block of what the model wrote.

    Of two answers the last counts (p_format is what tells them apart); `text` must not hold tool output.
    """
    blocks = _ANSWER.findall(text)
    return last_boxed(blocks[-1]) if blocks else None


def last_boxed(text: str) -> str | None:
    r"""The content of the last `\boxed{}` of a text."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for end in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if not depth:
            return text[begin:end].strip()
    return None
