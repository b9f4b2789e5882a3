"""Rollouts on real engines: each policy of the scheduler with local engines of `trainer/engine.py`, side by side.

    python -m loadtest.scheduler_engines [--engines 2] [--rollouts 24] [--pressure 4] [--rounds 3] [--out FILE]

A small Qwen3 with random weights generates turns whose lengths are scripted (log-normal, 1 to 4 turns of a rollout, no
stop token), with tool calls that take what calls of the service took (`tool_latency.json`). Each engine has a fixed KV
budget: what all its rollouts hold at full length, divided by the pressure. A rollout has the same tokens under each
policy, but for the rare draw that rounding decides. Seconds are of this machine and noisy, so the ratio to `expected`
is taken within a round. The engines share the processors, so that time shows what is computed, not what stands idle.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from loadtest.scheduler_workload import TOOL_LATENCY_S
from sandbox_service.trainer import model
from sandbox_service.trainer.engine import Eviction, LocalEngine
from sandbox_service.trainer.fleet import Fleet
from sandbox_service.trainer.inference import Sampling
from sandbox_service.trainer.need import Expected
from sandbox_service.trainer.recipe import Architecture
from sandbox_service.trainer.scheduler import Policy

SHAPE = Architecture(hidden=64, layers=2, heads=4, kv_heads=2, head_dim=16, ffn=128, vocabulary=128, positions=320)
LIMIT, PROMPT, TOOL_TOKENS = 256, 12, 8


@dataclass(frozen=True)
class Script:
    turns: tuple[int, ...]
    """Tokens of each."""
    tools_s: tuple[float, ...]

    @property
    def response(self) -> int:
        return sum(self.turns) + TOOL_TOKENS * (len(self.turns) - 1)


def scripts(count: int, seed: int) -> list[Script]:
    chance, made = random.Random(seed), list[Script]()  # noqa: S311
    while len(made) < count:
        turns = chance.randint(1, 4)
        own = min(LIMIT - TOOL_TOKENS * turns, max(8 * turns, round(chance.lognormvariate(4.5, 0.6))))
        lengths = [own // turns] * (turns - 1)
        made.append(
            Script((*lengths, own - sum(lengths)), tuple(chance.choice(TOOL_LATENCY_S) for _ in range(turns - 1)))
        )
    return made


@dataclass
class Measured:
    policy: str
    pressure: float
    round: int
    makespan_s: float
    generated: int
    recomputed: int
    preempted: int
    differ: int = 0
    """Rollouts with other tokens than under the first policy."""


async def play(fleet: Fleet, index: int, script: Script) -> list[int]:
    name, tokens = f"rollout-{index}", [1 + index % 100] * PROMPT
    sampling = Sampling(1.0, frozenset(), f"{index}")
    for turn, length in enumerate(script.turns):
        made = await fleet.generate(name, tokens, length, sampling)
        tokens = tokens + made.tokens
        if turn < len(script.tools_s):
            await asyncio.sleep(script.tools_s[turn])
            tokens += [0] * TOOL_TOKENS
    fleet.release(name)
    return tokens


def run(
    policy: Policy, replica: model.Policy, pressure: float, engines: int, workload: list[Script], round: int
) -> tuple[Measured, list[list[int]]]:
    """One policy at one pressure: what it cost, and the tokens of each rollout."""
    capacity = max(PROMPT + LIMIT, int(sum(PROMPT + script.response for script in workload) / engines / pressure))
    evict: Eviction = "half" if policy is Policy.STATIC_BARRIER else "newest"
    need = None
    if policy is Policy.EXPECTED:
        need = Expected(LIMIT)
        need.learn(script.response for script in scripts(len(workload), round + 1000))

    async def together() -> tuple[Measured, list[list[int]]]:
        made = [LocalEngine(replica, capacity, name=f"engine-{n}", evict=evict) for n in range(engines)]
        fleet, begun = Fleet(policy, LIMIT, made, need), time.monotonic()
        tokens = await asyncio.gather(*(play(fleet, index, script) for index, script in enumerate(workload)))
        took_s = time.monotonic() - begun
        for engine in made:
            engine.close()
        generated = sum(sum(script.turns) for script in workload)
        cost = Measured(policy.value, pressure, round, took_s, generated, fleet.recomputed_tokens, fleet.preemptions)
        return cost, list(tokens)

    return asyncio.run(together())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--rollouts", type=int, default=24, help="per engine")
    parser.add_argument("--pressure", type=float, nargs="+", default=[4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write all measurements to this file, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    replica = model.Policy(SHAPE)
    measured = list[Measured]()
    for round, pressure in itertools.product(range(options.rounds), options.pressure):
        workload, expected = scripts(options.engines * options.rollouts, round), None
        for policy in Policy:
            cost, tokens = run(policy, replica, pressure, options.engines, workload, round)
            expected = expected or tokens
            cost.differ = sum(mine != theirs for mine, theirs in zip(tokens, expected, strict=True))
            measured.append(cost)
            print(cost, flush=True)
    print("pressure policy           time / expected   recomputed/generated preempted (medians of the rounds)")
    ours = {(m.pressure, m.round): m.makespan_s for m in measured if m.policy == Policy.EXPECTED.value}
    for pressure, policy in itertools.product(options.pressure, Policy):
        mine = [m for m in measured if (m.pressure, m.policy) == (pressure, policy.value)]
        ratio = statistics.median(m.makespan_s / ours[m.pressure, m.round] for m in mine)
        again = statistics.median(m.recomputed / m.generated for m in mine)
        preempted = statistics.median(m.preempted for m in mine)
        print(f"{pressure:8} {policy.value:16} {ratio:15.2f} {again:22.3f} {preempted:9}")
    if options.out:
        options.out.write_text(json.dumps([asdict(m) for m in measured], indent=1) + "\n")


if __name__ == "__main__":
    main()
