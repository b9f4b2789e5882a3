"""One rollout in the paper's format, whatever generates it: the loop that verl's and TRL's adapters share.

Invariants: tokens are only ever appended (what was generated is never tokenised again); the mask is 1 for tokens that
the policy sampled and 0 for the rest; the response never passes its budget. A call that the service could not run
raises ServiceFault out of the loop: such a rollout is lost, and is neither text for the model nor a wrong answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from sandbox_service.client import AsyncSandboxClient, Result, Status
from sandbox_service.errors import ServiceFault
from sandbox_service.trainer import prompts
from sandbox_service.trainer.prompts import IM_END, Piece, Template
from sandbox_service.trainer.records import StopReason
from sandbox_service.trainer.rewards import p_err, p_format
from sandbox_service.trainer.tools import Lost, Tools

_NO_VERDICT = frozenset({Status.INFRA_ERROR, Status.EXPIRED, Status.CANCELLED})


@dataclass(frozen=True)
class Bounds:
    """What a rollout may use up."""

    max_tokens: int
    """Of its response: all turns and tool responses, without the prompt."""
    turns: int = 10
    response_chars: int = 1000
    """Of one tool response."""
    wall_s: float = 4.0
    """Of one tool call."""
    prompt_tokens: int | None = None
    """Of its prompt; a longer one is a ValueError before anything is generated. None: any."""


@dataclass(frozen=True)
class Sampled:
    """What the policy generated in one turn, with the token that ended it, if any did."""

    tokens: list[int]
    logprobs: list[float] | None = None


Generate = Callable[[list[int], int], Awaitable[Sampled]]
"""`await generate(tokens_so_far, at_most_so_many_new)`; it stops after `<|im_end|>`."""


class Codec(Protocol):
    """Tokens of pieces and text of tokens: `trainer.tokens.Tokens`, or `HuggingFace` around a tokenizer."""

    def encode(self, pieces: Iterable[Piece]) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


class HuggingFace:
    """A Codec around a Hugging Face tokenizer: special tokens in text that is not markup stay plain characters."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, pieces: Iterable[Piece]) -> list[int]:
        found: list[int] = []
        for piece in pieces:
            found += self._tokenizer.encode(piece.text, add_special_tokens=False, split_special_tokens=not piece.markup)
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=False))


@dataclass
class Episode:
    """A finished rollout. `response`, `mask` and `logprobs` (if the engine gave any) have the same length."""

    prompt: list[int]
    response: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    """Of each tool call: a `Status` value or PARSE_ERROR."""
    turns: int = 0
    text: str = ""
    """What the policy wrote, without tool responses."""
    stop: StopReason = StopReason.DONE

    @property
    def answer(self) -> str | None:
        """What is to be verified; None without one, and in a truncated rollout, whose reward is 0 (paper 4.3.1)."""
        return prompts.extract_answer(self.text) if self.stop is StopReason.DONE else None

    def facts(self) -> dict[str, Any]:
        """What RoC and the reward need, as plain data: no text has to be searched for errors later."""
        answers = prompts.count_answers(self.text)
        return {
            "outcomes": list(self.outcomes),
            "p_err": p_err(self.outcomes),
            "p_format": p_format(answers, self.turns),
            "answer": self.answer,
            "answers": answers,
            "turns": self.turns,
            "stop": self.stop.value,
        }

    def _append(self, tokens: list[int], logprobs: list[float] | None, sampled: bool) -> None:
        self.response += tokens
        self.mask += [int(sampled)] * len(tokens)
        self.logprobs += logprobs if logprobs is not None else [0.0] * len(tokens)


async def play(
    question: str,
    template: Template,
    bounds: Bounds,
    codec: Codec,
    generate: Generate,
    sandbox: AsyncSandboxClient,
    labels: dict[str, str],
) -> Episode:
    """Play one rollout to its end. ServiceFault: a call of it could not be run."""
    tools = Tools(sandbox, bounds.wall_s, bounds.response_chars)
    episode = Episode(codec.encode(prompts.first_turn(template, question)))
    if bounds.prompt_tokens is not None and len(episode.prompt) > bounds.prompt_tokens:
        raise ValueError(
            f"the prompt has {len(episode.prompt)} tokens, more than the {bounds.prompt_tokens} it may have"
        )
    while True:
        room = bounds.max_tokens - len(episode.response)
        turn = await generate(episode.prompt + episode.response, room)
        episode._append(turn.tokens[:room], turn.logprobs and turn.logprobs[:room], sampled=True)
        episode.turns += 1
        text, ended = _without_end(codec.decode(turn.tokens))
        episode.text += text
        if not ended and len(episode.response) >= bounds.max_tokens:
            episode.stop = StopReason.LENGTH
            return episode
        calls = prompts.tool_calls(text)
        if not calls:
            return episode
        if episode.turns >= bounds.turns:
            episode.stop = StopReason.TURNS
            return episode
        try:
            answers = await asyncio.gather(*(tools.run(call, labels) for call in calls))
        except Lost as error:
            raise ServiceFault(str(error)) from error
        episode.outcomes += [use.outcome for use, _ in answers]
        pieces = prompts.tool_turn([shown for _, shown in answers])
        given = codec.encode(pieces if ended else [Piece(IM_END), *pieces])
        if len(episode.response) + len(given) >= bounds.max_tokens:
            episode.stop = StopReason.LENGTH
            return episode
        episode._append(given, None, sampled=False)


def judged(result: Result) -> Result:
    """The Result, if it says anything about the code; otherwise raise ServiceFault."""
    if result.status in _NO_VERDICT:
        raise ServiceFault(f"call {result.id} ended as {result.status.value}: {result.message or 'no reason given'}")
    return result


async def reward(sandbox: AsyncSandboxClient, answer: str | None, reference: str) -> float:
    """1 if the answer is right, else 0 (Eq. 3), checked in the service. ServiceFault: nobody can tell."""
    if answer is None:
        return 0.0
    verdict = await sandbox.verify(f"\\boxed{{{answer}}}", reference)
    if verdict.correct is None:
        raise ServiceFault(f"an answer was not judged: {verdict.status.value}")
    return float(verdict.correct)


def client(url: str | Sequence[str], api_key: str | None = None) -> AsyncSandboxClient:
    """The one client of this process for a service: concurrent rollouts share its connections and its streams.

    `url` may name several gateways of the service.
    """
    return _client((url,) if isinstance(url, str) else tuple(url), api_key)


@cache
def _client(urls: tuple[str, ...], api_key: str | None) -> AsyncSandboxClient:
    return AsyncSandboxClient(urls, api_key=api_key)


def _without_end(text: str) -> tuple[str, bool]:
    """The text of a turn without the mark that ended it, and whether it has one."""
    text = text.removesuffix("<|endoftext|>")
    return text.removesuffix(IM_END), text.endswith(IM_END)
