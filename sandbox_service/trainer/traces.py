"""The SFT corpus: plans from `problems.py`, their tool calls run by the service, the same text as a rollout; or given
conversations, as Qwen's chat template has them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable

from sandbox_service.client.tools import ToolCallError
from sandbox_service.models import Call
from sandbox_service.trainer.problems import OUTPUT, Plan, answer_turn
from sandbox_service.trainer.prompts import IM_END, IM_START, Piece, Template, first_turn, tool_calls, tool_turn
from sandbox_service.trainer.sources import Messages
from sandbox_service.trainer.tokens import Tokens

RunTool = Callable[[Call | ToolCallError], Awaitable[str]]
"""Runs a tool call, if it is one, and returns what the model reads."""
Trace = list[tuple[list[Piece], bool]]
"""Stretches of a conversation, in order; True: written by the assistant."""
Example = tuple[list[int], list[int]]
"""Tokens, and a mask that is 1 for those of the assistant."""
_AT_ONCE = 512
_RESPONSE = re.compile("(</?tool_response>)")


async def make_traces(plans: Iterable[Plan], template: Template, run: RunTool) -> list[Trace]:
    """Turn plans into traces, in the same order."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(plan: Plan) -> Trace:
        async with room:
            return await make_trace(plan, template, run)

    return list(await asyncio.gather(*map(one, plans)))


async def make_trace(plan: Plan, template: Template, run: RunTool) -> Trace:
    trace: Trace = [(first_turn(template, plan.problem.question), False)]
    output = ""
    for turn in plan.calls:
        (call,) = tool_calls(turn)
        output = await run(call)
        trace += [([Piece(turn)], True), (tool_turn([output]), False)]
    answers = tuple(output if answer == OUTPUT else answer for answer in plan.answers)
    return [*trace, ([Piece(answer_turn(answers))], True)]


def conversation(messages: Messages) -> Trace:
    """A conversation as a trace: what the assistant says is learned, with the end of its turn. The tags around a tool's
    output are markup; the rest of what others say is text."""
    trace: Trace = []
    for turn in messages:
        head = Piece(f"{IM_START}{turn['role']}\n")
        if turn["role"] == "assistant":
            trace += [([head], False), ([Piece(turn["content"] + IM_END)], True), ([Piece("\n")], False)]
        else:
            parts = _RESPONSE.split(turn["content"]) if turn["role"] == "user" else [turn["content"]]
            said = [Piece(part, bool(_RESPONSE.fullmatch(part))) for part in parts if part]
            trace.append(([head, *said, Piece(f"{IM_END}\n")], False))
    return trace


def text(trace: Trace) -> str:
    return "".join(piece.text for pieces, _ in trace for piece in pieces)


def encode(trace: Trace, tokens: Tokens) -> Example:
    found: list[int] = []
    mask: list[int] = []
    for pieces, ours in trace:
        new = tokens.encode(pieces)
        found += new
        mask += [int(ours)] * len(new)
    return found, mask
