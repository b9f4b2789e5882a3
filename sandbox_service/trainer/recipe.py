"""Recipes: everything that decides a training run, as frozen data.

`RSTAR2_14B` is the paper's (sections 4 and 5.1); `NANO` learns on two CPU cores in minutes. A test compares the first
with the paper's table, figure by figure.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from sandbox_service.trainer.roc import Selection
from sandbox_service.trainer.scheduler import Policy as Scheduling

Denominator = Literal["group", "batch"]
"""Eq. 6 averaged over groups, or verl's mean over all tokens of a batch (`loss.py`)."""


@dataclass(frozen=True)
class Architecture:
    """A Qwen3 model to make from nothing."""

    hidden: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    head_dim: int = 32
    ffn: int = 384
    vocabulary: int = 512
    positions: int = 512
    rope_theta: float = 10_000.0


@dataclass(frozen=True)
class Sft:
    """Non-reasoning SFT: format and tool syntax, not skill."""

    traces: dict[str, int]
    """How many of each kind."""
    epochs: float
    batch: int
    optimizer: Literal["adamw", "muon"]
    """muon: Muon on the matrices, AdamW on the rest."""
    lr: float
    """AdamW's."""
    warmup: float
    """Share of the steps; then cosine to `final_lr` of it."""
    muon_lr: float = 0.0
    final_lr: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One stage of RL."""

    name: str
    steps: int
    data: str
    """Name of the problems."""
    max_tokens: int
    """Of a response: all turns and tool responses together, without the prompt."""
    turns: int
    drop_solved: int = 0
    """So many rollouts per problem before the stage; problems with all of them correct are dropped. 0: no filter."""
    problems: int = 0
    """How many problems there are, before the filter."""
    reset_optimizer: bool = False


@dataclass(frozen=True)
class Rl:
    """GRPO-RoC."""

    prompts: int
    """Groups per step."""
    rollouts: int
    """2G per group."""
    selection: Selection
    temperature: float
    lr: float
    warmup_steps: int
    """Linear, counted in steps; constant afterwards."""
    stages: tuple[Stage, ...]
    clip_low: float = 0.2
    clip_high: float = 0.28
    updates_per_batch: int = 1
    denominator: Denominator = "group"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    grad_norm: float = 1.0
    tool_wall_s: float = 4.0
    response_chars: int = 1000
    """Of a tool's output."""
    max_infra_share: float = 0.02
    """More rollouts of a step than this lost to the service's own faults end the run."""
    micro_batch: int = 8
    """Rollouts per forward pass of the loss; changes memory, not the result."""
    kv_tokens: int = 65_536
    """Budget of a local engine's KV cache."""
    engines: int = 1
    """Local engines; rollouts go to several by `scheduling`."""
    scheduling: Scheduling = Scheduling.EXPECTED
    shuffle_rewards: bool = False
    """The control that must not learn."""


@dataclass(frozen=True)
class Evaluation:
    data: str
    problems: int
    samples: int
    temperature: float
    max_tokens: int
    turns: int
    at_start: bool = True
    """Of the policy that RL begins with, too."""


@dataclass(frozen=True)
class Recipe:
    name: str
    base: str | Architecture
    """A Hugging Face folder, or what to make from nothing."""
    template: Literal["paper", "short"]
    sft: Sft
    rl: Rl
    evaluation: Evaluation
    available: bool = True
    """False: its data and base model are not here: it runs with given ones alone."""
    files: tuple[str, ...] = ()
    """Names and contents of files that stand in for its own data (`given.py`)."""

    def describe(self) -> str:
        """All of it, as JSON."""
        return json.dumps(asdict(self), indent=2)


RSTAR2_14B = Recipe(
    name="rstar2-14b",
    base="Qwen/Qwen3-14B-Base",
    template="paper",
    sft=Sft(
        traces={"function_call": 165_000, "instruction_following": 30_000, "chat": 27_000},
        epochs=3,
        batch=128,
        optimizer="adamw",
        lr=5e-6,
        warmup=0.04,
    ),
    rl=Rl(
        prompts=512,
        rollouts=32,
        selection=Selection(keep=16),
        temperature=1.0,
        lr=1e-6,
        warmup_steps=20,
        stages=(
            Stage("1", steps=300, data="math-42k", problems=42_000, max_tokens=8_192, turns=10),
            Stage("2", steps=85, data="math-42k", problems=42_000, max_tokens=12_288, turns=10),
            Stage(
                "3",
                steps=125,
                data="math-42k",
                problems=42_000,
                max_tokens=12_288,
                turns=15,
                drop_solved=8,
                reset_optimizer=True,
            ),
        ),
    ),
    evaluation=Evaluation("aime24", problems=30, samples=16, temperature=0.6, max_tokens=30_720, turns=30),
    available=False,
)
NANO = Recipe(
    name="nano",
    base=Architecture(),
    template="short",
    sft=Sft(
        traces={"tool_use": 12_000},
        epochs=1.2,
        batch=32,
        optimizer="muon",
        lr=3e-3,
        muon_lr=0.02,
        warmup=0.08,
        final_lr=0.05,
    ),
    rl=Rl(
        prompts=16,
        rollouts=16,
        selection=Selection(keep=8),
        temperature=1.0,
        lr=5e-4,
        warmup_steps=5,
        betas=(0.9, 0.95),
        stages=(
            Stage("1", steps=30, data="one-call", max_tokens=160, turns=3),
            Stage("2", steps=20, data="two-calls", max_tokens=224, turns=4),
            Stage(
                "3",
                steps=15,
                data="large",
                problems=128,
                max_tokens=224,
                turns=4,
                drop_solved=8,
                reset_optimizer=True,
            ),
        ),
        tool_wall_s=2.0,
        response_chars=40,
    ),
    evaluation=Evaluation("held-out", problems=288, samples=4, temperature=1.0, max_tokens=224, turns=4),
)
RECIPES = {recipe.name: recipe for recipe in (NANO, RSTAR2_14B)}
