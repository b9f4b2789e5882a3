"""Rollouts on real engines: each policy of the scheduler with local engines of `trainer/engine.py`, side by side.

    python -m loadtest.scheduler_engines [--engines 2] [--rollouts 24] [--pressure 4] [--seeds 0 1 2] [--out FILE]

A small Qwen3 with random weights generates turns whose lengths are scripted (log-normal, 1 to 4 turns of a rollout, no
stop token), with tool calls that take what calls of the service took (`tool_latency.json`). Each engine has a fixed KV
budget: what all its rollouts hold at full length, divided by the pressure. A rollout has the same tokens under each
policy, but for the rare draw that rounding decides. `--out` appends a line of JSON per measurement, and the table is of
all that the file has, so a long run can be made in pieces.

Two clocks: the time that passes, and the processor time of this process, in which nothing but the engines computes.
The engines share the processors: two of them do not take half the time of one, and where an engine stands idle another
goes on faster. So what is compared is how much each policy makes them compute: passes with few rollouts in them, and
tokens computed again. Ratios are to `expected` with the same rollouts.
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
    engines: int
    pressure: float
    seed: int
    makespan_s: float
    cpu_s: float
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
    policy: Policy, replica: model.Policy, pressure: float, engines: int, workload: list[Script], seed: int
) -> tuple[Measured, list[list[int]]]:
    """One policy at one pressure: what it cost, and the tokens of each rollout."""
    capacity = max(PROMPT + LIMIT, int(sum(PROMPT + script.response for script in workload) / engines / pressure))
    evict: Eviction = "half" if policy is Policy.STATIC_BARRIER else "newest"
    need = None
    if policy is Policy.EXPECTED:
        need = Expected(LIMIT)
        need.learn(script.response for script in scripts(len(workload), seed + 1000))

    async def together() -> tuple[Measured, list[list[int]]]:
        made = [LocalEngine(replica, capacity, name=f"engine-{n}", evict=evict) for n in range(engines)]
        fleet, begun, cpu = Fleet(policy, LIMIT, made, need), time.monotonic(), time.process_time()
        tokens = await asyncio.gather(*(play(fleet, index, script) for index, script in enumerate(workload)))
        took_s, cpu_s = time.monotonic() - begun, time.process_time() - cpu
        for engine in made:
            engine.close()
        generated = sum(sum(script.turns) for script in workload)
        again, preempted = fleet.recomputed_tokens, fleet.preemptions
        cost = Measured(policy.value, engines, pressure, seed, took_s, cpu_s, generated, again, preempted)
        return cost, list(tokens)

    return asyncio.run(together())


def table(measured: list[Measured]) -> str:
    """Of each policy at each number of engines and pressure: means over the seeds, ratios to `expected`."""
    ours = {(m.engines, m.pressure, m.seed): m for m in measured if m.policy == Policy.EXPECTED.value}
    lines = [
        "| engines | pressure | policy | seeds | time | processor time | preempted | recomputed / generated |",
        "|" + "---|" * 8,
    ]
    for engines, pressure in sorted({(m.engines, m.pressure) for m in measured}):
        for policy in Policy:
            mine = [m for m in measured if (m.engines, m.pressure, m.policy) == (engines, pressure, policy.value)]
            if not mine:
                continue
            pairs = [(m, ours[m.engines, m.pressure, m.seed]) for m in mine]
            cells = [
                *(str(engines), f"{pressure:g}", f"`{policy.value}`", str(len(mine))),
                f"{statistics.mean(m.makespan_s / our.makespan_s for m, our in pairs):.2f}",
                f"{statistics.mean(m.cpu_s / our.cpu_s for m, our in pairs):.2f}",
                f"{statistics.mean(m.preempted for m in mine):.0f}",
                f"{statistics.mean(m.recomputed / m.generated for m in mine):.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, default=2)
    parser.add_argument("--rollouts", type=int, default=24, help="per engine")
    parser.add_argument("--pressure", type=float, nargs="+", default=[4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="append the measurements to this file, as JSON lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    replica = model.Policy(SHAPE)
    there = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    measured = [Measured(**json.loads(line)) for line in there]
    for seed, pressure in itertools.product(options.seeds, options.pressure):
        workload, expected = scripts(options.engines * options.rollouts, seed), None
        for policy in Policy:
            cost, tokens = run(policy, replica, pressure, options.engines, workload, seed)
            expected = expected or tokens
            cost.differ = sum(mine != theirs for mine, theirs in zip(tokens, expected, strict=True))
            measured.append(cost)
            print(cost, flush=True)
            if options.out:
                with options.out.open("a") as out:
                    out.write(json.dumps(asdict(cost)) + "\n")
    print(table(measured))


if __name__ == "__main__":
    main()
