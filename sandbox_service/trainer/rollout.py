"""One rollout: turns of the policy, tool calls through the service, an answer and its verdict.

Token in, token out: what the policy sampled is kept as it was sampled, and what goes back to the engine is the same
list with more at its end (an engine refuses anything else); nothing is tokenised twice. A tool call is sent the moment
its `</tool_call>` is sampled, while the rest of the turn is still being generated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sandbox_service.client.tools import ToolCallError
from sandbox_service.models import Call
from sandbox_service.trainer.inference import Engine, Generation, Sampling, Stop
from sandbox_service.trainer.prompts import Template, count_answers, extract_answer, first_turn, tool_calls, tool_turn
from sandbox_service.trainer.records import Rollout, StopReason, ToolUse
from sandbox_service.trainer.tokens import Tokens
from sandbox_service.trainer.tools import Tools, Verifier

_Responses = list[asyncio.Task[tuple[ToolUse, str]]]


@dataclass(frozen=True)
class Play:
    """What all rollouts of a run share."""

    run: str
    """Label of every call, so that a restarted run finds what its predecessor left."""
    seed: int
    tokens: Tokens
    template: Template
    tools: Tools
    verifier: Verifier
    engine: Engine


@dataclass(frozen=True)
class Rules:
    """What differs between stages and evaluations."""

    max_tokens: int
    """Of all turns and tool responses together, without the prompt."""
    turns: int
    temperature: float


async def play(rollout: Rollout, rules: Rules, how: Play) -> None:
    """Play it to its end, in place, and set its reward. tools.Lost: the service failed it.

    The same (seed, step, group, rollout) draws the same numbers, whatever runs beside it.
    """
    name = "-".join(map(str, rollout.key))
    rollout.append(how.tokens.encode(first_turn(how.template, rollout.problem.question)))
    limit = len(rollout.tokens) + rules.max_tokens
    stops = frozenset({how.tokens.end, how.tokens.call_end})
    sampling = Sampling(rules.temperature, stops, f"{how.seed}/{name}")

    async def generate() -> Generation:
        made = await how.engine.generate(name, rollout.tokens, limit - len(rollout.tokens), sampling)
        rollout.append(made.tokens, made.logprobs)
        return made

    running: _Responses = []
    texts: list[str] = []
    try:
        while len(rollout.tokens) < limit:
            rollout.turns += 1
            send = _sender(rollout, how, running) if rollout.turns < rules.turns else None
            text, calls, stop = await _turn(generate, how.tokens, send, lambda: len(rollout.tokens) < limit)
            texts.append(text)
            if stop is Stop.LENGTH:
                break
            if not calls or send is None:
                rollout.stop = StopReason.TURNS if calls else StopReason.DONE
                return await _judge(rollout, "".join(texts), how.verifier)
            done = await asyncio.gather(*running)
            running.clear()
            rollout.tools += [use for use, _ in done]
            rollout.append(how.tokens.encode(tool_turn([response for _, response in done])))
        rollout.stop = StopReason.LENGTH
        await _judge(rollout, "".join(texts), how.verifier)
    finally:
        for task in running:  # nobody waits for these any more: that cancels them in the service
            task.cancel()
        how.engine.release(name)


async def _turn(
    generate: Callable[[], Awaitable[Generation]],
    tokens: Tokens,
    send: Callable[[Call | ToolCallError], None] | None,
    has_room: Callable[[], bool],
) -> tuple[str, int, Stop]:
    """Generate one assistant turn, sending its tool calls on the way: its text, its number of calls, why it ended."""
    text, calls = "", 0
    while has_room():
        made = await generate()
        written = tokens.decode(made.tokens)
        text += written
        if made.stop is Stop.LENGTH:
            break
        for call in tool_calls(written, calls):
            calls += 1
            if send:
                send(call)
        if made.tokens[-1] == tokens.end:
            return text, calls, Stop.END
    return text, calls, Stop.LENGTH


def _sender(rollout: Rollout, how: Play, running: _Responses) -> Callable[[Call | ToolCallError], None]:
    step, group, number = map(str, rollout.key)
    labels = {"run": how.run, "step": step, "group": group, "rollout": number}

    def send(call: Call | ToolCallError) -> None:
        running.append(asyncio.create_task(how.tools.run(call, labels)))

    return send


async def _judge(rollout: Rollout, written: str, verifier: Verifier) -> None:
    """Truncated rollouts stay in with reward 0 (paper 5.1: leaving them out hurt)."""
    rollout.answers, rollout.answer = count_answers(written), extract_answer(written)
    if rollout.stop is StopReason.DONE and rollout.answer is not None:
        rollout.reward = float(await verifier.is_right(rollout.answer, rollout.problem.answer))
