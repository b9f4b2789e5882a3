"""The records that pass between the parts: Problem, ToolUse, Rollout, Group. Plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

PARSE_ERROR = "parse_error"
"""Outcome of a tool call that could not be read; the others are the values of `Status`."""


class StopReason(str, Enum):
    """Why a rollout ended; a closed list."""

    DONE = "done"
    """A turn without a tool call: what it says is the answer."""
    TURNS = "turns"
    """Still calling tools in its last turn. Truncated: reward 0."""
    LENGTH = "length"
    """Its token budget is used up. Truncated: reward 0."""


@dataclass(frozen=True)
class Problem:
    question: str
    answer: str
    """An integer."""
    family: str


@dataclass(frozen=True)
class ToolUse:
    """One tool call of a rollout and what became of it."""

    outcome: str
    """A `Status` value, or PARSE_ERROR."""
    wait_s: float = 0.0
    """From sending the call to its answer."""
    service_s: float = 0.0
    """What the service says it took, from arrival to answer."""
    attempts: int = 1
    """How often the service began it; more than once where a worker or a jail was lost."""


@dataclass
class Rollout:
    """One attempt at a problem, token by token. `tokens`, `mask` and `logprobs` have the same length.

    `mask` is 1 for tokens that the policy sampled, 0 for the prompt and tool responses; `logprobs` are those the
    engine sampled with (0.0 where the mask is 0).
    """

    step: str
    """Of training its number; else what it is played for, as "filter-3"."""
    group: int
    rollout: int
    problem: Problem
    tokens: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tools: list[ToolUse] = field(default_factory=list)
    turns: int = 0
    """Assistant turns, the first included."""
    answers: int = 0
    """`<answer>` tags in the assistant turns."""
    answer: str | None = None
    stop: StopReason = StopReason.DONE
    reward: float = 0.0

    @property
    def key(self) -> tuple[str, int, int]:
        return self.step, self.group, self.rollout

    @property
    def sampled(self) -> int:
        """|o_i|: the tokens that the loss counts."""
        return sum(self.mask)

    def append(self, tokens: list[int], logprobs: list[float] | None = None) -> None:
        """Add sampled tokens (with their log-probabilities) or given ones (without)."""
        self.tokens += tokens
        self.mask += [int(logprobs is not None)] * len(tokens)
        self.logprobs += [0.0] * len(tokens) if logprobs is None else logprobs

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Rollout:
        problem, tools = Problem(**found["problem"]), [ToolUse(**use) for use in found["tools"]]
        return cls(**{**found, "problem": problem, "tools": tools, "stop": StopReason(found["stop"])})
