"""Tool calling: the function that a model may call, its call as a Call, a Result as the text that the model reads.

The schema is the one of rStar2-Agent (arXiv 2508.20722, section 2.1). Pure: no I/O, so it goes with either client.

    call = to_call(message.tool_calls[0], limits={"wall_s": 5})
    text = to_text(sandbox.run(call))

What the model did wrong, in its call or in its code, is text for the model. What the service did wrong never is: a
Result that is `infra_error` raises. The text says what happened before anything that the program wrote, so no
output can pass for it; and it is decided by the Result's fields alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sandbox_service.errors import InvalidCall, ServiceFault
from sandbox_service.models import Call, Result, Status
from sandbox_service.reasons import flaws

TOOL_NAME = "execute_python_code_with_standard_io"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": TOOL_NAME,
        "description": "Execute Python code with standard input and capture standard output. This function takes a "
        "Python code string and an input string, provides the input string through standard input (stdin) to the "
        "code, and captures and returns any output produced through standard output (stdout). If the executed code "
        "raises an exception, the error message will be captured and returned instead.",
        "parameters": {
            "type": "object",
            "properties": {
                "code": {
                    "type": "string",
                    "description": "A string containing Python code to be executed. The code can read from standard "
                    "input using the input() function.",
                },
                "input": {
                    "type": "string",
                    "description": "A string that will be provided as standard input to the code when it executes.",
                },
            },
            "required": ["code", "input"],
            "additionalProperties": False,
        },
    },
}
"""As OpenAI's API and chat templates take it."""
MAX_CHARS = 10_000
"""How much of each stream a model gets to read, unless the caller says otherwise."""
_USAGE = f'Call {TOOL_NAME} with a JSON object of two strings: {{"code": "...", "input": "..."}}'
_FIELDS = {"code": "code", "stdin": "input"}


class ToolCallError(ValueError):
    """The model's call is none. Its text is for the model: it says what is wrong (`reason`) and how it is done."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Tool call failure: {reason}\n\n{_USAGE}")
        self.reason = reason


def to_call(tool_call: str | Mapping[str, Any] | BaseModel, **fields: Any) -> Call:
    """Return the Call that a model asks for; `fields` are the caller's part of it (limits, labels, timeout_s, ...).

    `tool_call`: one entry of `tool_calls` of OpenAI's API, as their client's object or as JSON; or what stands inside
    a `<tool_call>` tag, `{"name": ..., "arguments": {...}}`, as text or parsed.
    Raise ToolCallError, whose text goes back to the model, or InvalidCall if `fields` are wrong.
    """
    arguments = _arguments(tool_call)
    own = {"code": arguments["code"], "stdin": arguments["input"], "show_last_value": True}
    try:
        return Call.model_validate({**own, **fields})
    except ValidationError as error:
        place, wrong = next(flaws(Call, error))
        if place in _FIELDS and place not in fields:
            raise ToolCallError(f"`{_FIELDS[place]}` {wrong}") from None
        raise InvalidCall(f"{place}: {wrong}", field=place) from error


def to_text(result: Result, *, max_chars: int = MAX_CHARS) -> str:
    """Return what the model reads of a Result: what happened, then the program's output, or what fits of it.

    Of each stream `max_chars` characters are shown; a longer one loses its middle. Standard error is shown when the
    code did not end well or wrote nothing else. Raise ServiceFault for `infra_error`: nothing is known of the code.
    """
    if result.status is Status.INFRA_ERROR:
        raise ServiceFault(result.message or "the service could not run this call; try again")
    streams = [("stdout", result.stdout, result.truncated.stdout), ("stderr", result.stderr, result.truncated.stderr)]
    if result.status is Status.OK and result.stdout:
        del streams[1]
    head, sections = [_outcome(result)], []
    for name, text, dropped in streams:
        shown = text.rstrip("\n")
        left_out = max(0, len(shown) - max_chars)
        if left_out:
            head.append(f"Note: {left_out} of {len(shown)} characters of {name} are left out in the middle.")
            shown = _without_middle(shown, max_chars, left_out)
        if dropped:
            head.append(f"Note: {name} was longer than the service keeps; its end is missing.")
            shown += "\n[the rest was not kept]"
        if shown:
            sections.append(f"{name}:\n{shown}")
    return "\n\n".join(["\n".join(head), *(sections or ["(no output)"])])


def _outcome(result: Result) -> str:
    if result.status is Status.OK:
        return "Tool call success"
    return f"Tool call failure: {_reason(result)}"


def _reason(result: Result) -> str:
    if result.status is Status.FAILED:
        return f"the code ended with exit code {result.exit_code}"
    if result.status is Status.SIGNALED:
        denied = ": it made a system call that is not allowed here" if result.signal == "SIGSYS" else ""
        return f"the code was ended by {result.signal or 'a signal'}{denied}"
    if result.status is Status.TIMED_OUT:
        return f"the code timed out: it reached its limit of {'CPU' if result.limit == 'cpu' else 'wall-clock'} time"
    if result.status is Status.CANCELLED and result.limit == "deadline":
        return "the code was stopped: the time to wait for its result was over"
    return _REASONS[result.status]


_REASONS = {
    Status.OUT_OF_MEMORY: "the code ran out of memory",
    Status.OUTPUT_LIMIT: "the code was stopped because it wrote far too much output",
    Status.EXPIRED: "the code was not run: the time to wait for its result was over before it could start",
    Status.CANCELLED: "the code was stopped because the call was cancelled",
}


def _without_middle(text: str, max_chars: int, left_out: int) -> str:
    end = max_chars // 2
    return f"{text[: max_chars - end]}\n[{left_out} characters left out]\n{text[len(text) - end :]}"


def _arguments(tool_call: str | Mapping[str, Any] | BaseModel) -> dict[str, str]:
    """Return the arguments, complete and of the right types."""
    parsed: object = tool_call.model_dump() if isinstance(tool_call, BaseModel) else tool_call
    if isinstance(parsed, str):
        parsed = _json(parsed, "the call")
    if isinstance(parsed, Mapping) and "function" in parsed:
        parsed = parsed["function"]
    if not isinstance(parsed, Mapping):
        raise ToolCallError(f"the call must be a JSON object with `name` and `arguments`, not {_kind(parsed)}")
    for field in ("name", "arguments"):
        if field not in parsed:
            raise ToolCallError(f"the call lacks `{field}`")
    if parsed["name"] != TOOL_NAME:
        raise ToolCallError(f"there is no function {str(parsed['name'])[:80]!r}")
    arguments = parsed["arguments"]
    if isinstance(arguments, str):
        arguments = _json(arguments, "the arguments")
    if not isinstance(arguments, Mapping):
        raise ToolCallError(f"`arguments` must be a JSON object, not {_kind(arguments)}")
    for field in ("code", "input"):
        if field not in arguments:
            raise ToolCallError(f"the argument `{field}` is missing")
        if not isinstance(arguments[field], str):
            raise ToolCallError(f"the argument `{field}` must be a string, not {_kind(arguments[field])}")
    unknown = [str(name)[:80] for name in arguments if name not in ("code", "input")]
    if unknown:
        raise ToolCallError(f"there is no argument {unknown[0]!r}")
    return dict(arguments)


def _json(text: str, what: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ToolCallError(
            f"{what} must be JSON: {error.msg} at {where} ({text[error.pos : error.pos + 20]!r})"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits; nesting without end
        raise ToolCallError(f"{what} must be JSON, and this is nested too deeply or holds too large a number") from None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null" if value is None else "something else")
