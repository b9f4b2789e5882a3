"""The rollouts that `scheduler_sim.py` plays: all that chance decides about them, so that every policy meets the same.

What the paper states: responses up to 12K tokens and 6K on average before they are cut, 2.75 tool calls per rollout, at
most 10 turns. Tool calls take what calls through the SDK took, measured (`tool_latency.json`, by `tool_latency.py`).
Assumed: log-normal lengths, independent of each other; Poisson calls; turns of uniform shares; prompts of 300 to 600
tokens with nothing in common.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

LIMIT = 12_000
MEAN_RESPONSE = 6_000
MEAN_CALLS, MOST_TURNS = 2.75, 10
TOOL_LATENCY_S: list[float] = json.loads(Path(__file__).with_name("tool_latency.json").read_text())["quantiles_s"]
"""Equally likely."""


@dataclass(frozen=True)
class Turn:
    own: int
    """Tokens that the model writes."""
    tool: int
    """Tokens of the tool result before them (none in the first turn)."""
    tool_s: float
    """Latency of that tool call."""


@dataclass(frozen=True)
class Script:
    """All that chance decides about one rollout, so that every policy meets the same rollouts."""

    prompt: int
    turns: tuple[Turn, ...]

    @property
    def final(self) -> int:
        return self.prompt + sum(turn.own + turn.tool for turn in self.turns)


def scripts(rollouts: int, spread: float, seed: int) -> list[Script]:
    """That many rollouts; `spread` is the sigma of the logarithm of the response length."""
    chance = random.Random(f"{seed} {spread}")  # noqa: S311
    return [_script(chance, spread) for _ in range(rollouts)]


def _script(chance: random.Random, spread: float) -> Script:
    mu = math.log(MEAN_RESPONSE) - spread * spread / 2
    response = max(64, min(LIMIT, round(chance.lognormvariate(mu, spread))))
    calls, level = 0, chance.random()
    term = share = math.exp(-MEAN_CALLS)
    while share < level and calls < MOST_TURNS - 1:
        calls += 1
        term *= MEAN_CALLS / calls
        share += term
    cuts = sorted(chance.sample(range(1, response), calls))
    turns = []
    for position, (start, end) in enumerate(zip([0, *cuts], [*cuts, response], strict=True)):
        tool = min((end - start) // 2, chance.randint(20, 200)) if position else 0
        turns.append(Turn(max(1, end - start - tool), tool, chance.choice(TOOL_LATENCY_S)))
    return Script(chance.randint(300, 600), tuple(turns))
