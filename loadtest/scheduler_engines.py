"""Rollouts on real engines: each policy of the scheduler with local engines of `trainer/engine.py`, side by side.

    python -m loadtest.scheduler_engines [--engines 2] [--rollouts 64] [--pressure 4] [--seeds 0 1 2] [--out FILE]
                                         [--tools 0.004]

A scale model of the paper's step: the rollouts of `scheduler_workload.py` with their lengths divided by 27, generated
by a Qwen3 with random weights and the shape of the trainer's smallest recipe, without a stop token. Each engine has a
fixed KV budget: what all its rollouts hold at full length, divided by the pressure. A turn that takes half a minute on
the paper's engines takes a tenth of a second here, so tool calls are shortened as much (`--tools`); with `--tools 1`
they take what calls through the service took, which is longer than a turn. A rollout has the same tokens under each
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
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from loadtest import scheduler_workload
from loadtest.scheduler_workload import Script, Turn
from sandbox_service.trainer import model
from sandbox_service.trainer.engine import Eviction, LocalEngine
from sandbox_service.trainer.fleet import Fleet
from sandbox_service.trainer.inference import Sampling
from sandbox_service.trainer.need import Expected
from sandbox_service.trainer.recipe import Architecture
from sandbox_service.trainer.scheduler import Policy

SHAPE = Architecture()
LIMIT = 448
SCALE = LIMIT / scheduler_workload.LIMIT
SPREAD = 0.6


def scripts(rollouts: int, spread: float, seed: int) -> list[Script]:
    """Those of the simulation, shorter."""
    return [_shorter(script) for script in scheduler_workload.scripts(rollouts, spread, seed)]


def _shorter(script: Script) -> Script:
    turns, left = [], LIMIT
    for position, turn in enumerate(script.turns):
        own, tool = max(1, int(turn.own * SCALE)), max(1, int(turn.tool * SCALE)) if position else 0
        if own + tool > left:
            break
        left -= own + tool
        turns.append(Turn(own, tool, turn.tool_s))
    return Script(max(1, int(script.prompt * SCALE)), tuple(turns))


@dataclass
class Measured:
    policy: str
    engines: int
    pressure: float
    tools: float
    seed: int
    makespan_s: float
    cpu_s: float
    generated: int
    recomputed: int
    preempted: int
    differ: int = 0
    """Rollouts with other tokens than under the first policy."""


async def play(fleet: Fleet, index: int, script: Script, tools: float) -> list[int]:
    name, tokens = f"rollout-{index}", [1 + index % 500] * script.prompt
    sampling = Sampling(1.0, frozenset(), f"{index}")
    for turn in script.turns:
        if turn.tool:
            await asyncio.sleep(turn.tool_s * tools)
            tokens += [0] * turn.tool
        made = await fleet.generate(name, tokens, turn.own, sampling)
        tokens = tokens + made.tokens
    fleet.release(name)
    return tokens


def run(
    policy: Policy, replica: model.Policy, engines: int, rollouts: int, pressure: float, tools: float, seed: int
) -> tuple[Measured, list[list[int]]]:
    """One policy on so many engines with so many rollouts each: what it cost, and the tokens of each rollout."""
    workload = scripts(engines * rollouts, SPREAD, seed)
    longest = max(script.prompt for script in workload) + LIMIT
    capacity = max(longest, int(sum(script.final for script in workload) / engines / pressure))
    evict: Eviction = "half" if policy is Policy.STATIC_BARRIER else "newest"
    need = None
    if policy is Policy.EXPECTED:
        need = Expected(LIMIT)
        need.learn(script.final - script.prompt for script in scripts(len(workload), SPREAD, seed + 1000))

    async def together() -> tuple[Measured, list[list[int]]]:
        made = [LocalEngine(replica, capacity, name=f"engine-{n}", evict=evict) for n in range(engines)]
        fleet, begun, cpu = Fleet(policy, LIMIT, made, need), time.monotonic(), time.process_time()
        tokens = await asyncio.gather(*(play(fleet, index, script, tools) for index, script in enumerate(workload)))
        took_s, cpu_s = time.monotonic() - begun, time.process_time() - cpu
        for engine in made:
            engine.close()
        generated = sum(turn.own for script in workload for turn in script.turns)
        again, preempted = fleet.recomputed_tokens, fleet.preemptions
        cost = Measured(policy.value, engines, pressure, tools, seed, took_s, cpu_s, generated, again, preempted)
        return cost, list(tokens)

    return asyncio.run(together())


def table(measured: list[Measured]) -> str:
    """Of each policy at each number of engines and pressure: means over the seeds, ratios to `expected`."""
    ours = {(m.engines, m.pressure, m.tools, m.seed): m for m in measured if m.policy == Policy.EXPECTED.value}
    lines = [
        "| engines | pressure | tools | policy | seeds | time | processor time | preempted | recomputed / generated |",
        "|" + "---|" * 9,
    ]
    for point in sorted({(m.engines, m.pressure, m.tools) for m in measured}):
        for policy in Policy:
            mine = [m for m in measured if (m.engines, m.pressure, m.tools, m.policy) == (*point, policy.value)]
            if not mine:
                continue
            pairs = [(m, ours[(*point, m.seed)]) for m in mine]
            cells = [
                *(f"{number:g}" for number in point),
                f"`{policy.value}`",
                str(len(mine)),
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
    parser.add_argument("--rollouts", type=int, default=64, help="per engine")
    parser.add_argument("--pressure", type=float, nargs="+", default=[4])
    parser.add_argument("--tools", type=float, default=0.004, help="length of tool calls, in measured ones")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, help="append the measurements to this file, as JSON lines")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    replica = model.Policy(SHAPE)
    there = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    measured = [Measured(**json.loads(line)) for line in there]
    for seed, pressure in itertools.product(options.seeds, options.pressure):
        expected: list[list[int]] = []
        for policy in Policy:
            cost, tokens = run(policy, replica, options.engines, options.rollouts, pressure, options.tools, seed)
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
