"""What the rollout loop asks of an inference engine; several engines behind a scheduler are one of these, too.

A rollout stays on the engine that holds its KV cache, from its first `generate` to `release`, also while it waits for
a tool. Tokens go in and tokens come out: the loop always passes the rollout's whole token list, and an
engine recomputes whatever of it is no longer (or was never) in its cache, so preempting costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class EngineLost(Exception):
    """The engine is gone; the rollout can go on elsewhere from the tokens that it has."""


class Stop(str, Enum):
    """Why an engine stopped to generate."""

    END = "end"
    """A stop token was sampled; it is the last of the tokens returned."""
    LENGTH = "length"
    """`max_new` tokens were generated."""


@dataclass(frozen=True)
class Sampling:
    """How to sample. The draws of a request depend on `seed` and the position alone, never on its neighbours."""

    temperature: float
    """0 is greedy."""
    stop: frozenset[int]
    seed: str


@dataclass(frozen=True)
class Generation:
    tokens: list[int]
    logprobs: list[float]
    """Of each token under the distribution it was drawn from (nats); at temperature 0 under that of temperature 1."""
    stop: Stop
    preempted: int = 0
    """How often the rollout lost its cache on the way."""


class Engine(Protocol):
    """One model replica with a fixed budget of KV cache, counted in tokens."""

    name: str

    @property
    def capacity_tokens(self) -> int: ...

    @property
    def preemptions(self) -> int:
        """Rollouts that lost their cache to make room, so far."""
        ...

    @property
    def recomputed_tokens(self) -> int:
        """Tokens computed again because of that, so far."""
        ...

    @property
    def used_tokens(self) -> int:
        """Tokens in the cache now, those of rollouts that wait for a tool included."""
        ...

    async def generate(self, rollout: str, tokens: Sequence[int], max_new: int, sampling: Sampling) -> Generation:
        """Continue `tokens` (the whole rollout so far). Its cache stays until `release`, or until it is preempted.

        Waits while there is no room. ValueError: it could never fit. EngineLost: the engine is gone.
        """
        ...

    def release(self, rollout: str) -> None:
        """Forget a rollout: its cache is free, a `generate` under way is cancelled. Unknown ids are ignored."""
        ...
