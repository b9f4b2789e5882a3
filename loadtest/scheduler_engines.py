"""Rollouts on real engines: each policy of the scheduler with local engines of `trainer/engine.py`, side by side.

    python -m loadtest.scheduler_engines [--engines 2] [--rollouts 64] [--pressure 4] [--seeds 0 1 2] [--out FILE]
                                         [--servers]

A scale model of the paper's step: the rollouts of `scheduler_workload.py` with their lengths divided by 27, generated
by a Qwen3 with random weights and the shape of the trainer's smallest recipe, without a stop token. Each engine has a
fixed KV budget: what all its rollouts hold at full length, divided by the pressure. A rollout has the same tokens under
each policy, but for the rare draw that rounding decides. `--out` appends a line of JSON per measurement, and the table
is of all that the file has, so a long run can be made in pieces.

Two clocks. *Time* is that of `scheduler_clock.py`: what the passes of these engines, with their rollouts and what they
computed again, take on the paper's card. *Processor time* is what they took here, where engines share the processors:
where one stands idle another goes on faster. `--servers`: engines that order turns as inference servers do by default.
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
from loadtest.scheduler_clock import ComputedLoop, PricedEngine, ServerEngine
from loadtest.scheduler_workload import Script, Turn
from sandbox_service.trainer import model
from sandbox_service.trainer.engine import Eviction
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
    rollouts: int
    pressure: float
    servers: bool
    seed: int
    makespan_s: float
    idle_share: float
    tail_s: float
    """From the moment when 90 % of the rollouts are done to the end."""
    cpu_s: float
    generated: int
    recomputed: int
    preempted: int
    differ: int = 0
    """Rollouts with other tokens than under the first policy."""

    @property
    def point(self) -> tuple[int, int, float, bool]:
        return self.engines, self.rollouts, self.pressure, self.servers


async def play(fleet: Fleet, index: int, script: Script, done_at: list[float]) -> list[int]:
    name, tokens = f"rollout-{index}", [1 + index % 500] * script.prompt
    sampling = Sampling(1.0, frozenset(), f"{index}")
    for turn in script.turns:
        if turn.tool:
            await asyncio.sleep(turn.tool_s)
            tokens += [0] * turn.tool
        made = await fleet.generate(name, tokens, turn.own, sampling)
        tokens = tokens + made.tokens
    fleet.release(name)
    done_at.append(asyncio.get_running_loop().time())
    return tokens


def run(
    policy: Policy, replica: model.Policy, engines: int, rollouts: int, pressure: float, servers: bool, seed: int
) -> tuple[Measured, list[list[int]]]:
    """One policy on so many engines with so many rollouts each: what it cost, and the tokens of each rollout."""
    workload = scripts(engines * rollouts, SPREAD, seed)
    longest = max(script.prompt for script in workload) + LIMIT
    capacity = max(longest, int(sum(script.final for script in workload) / engines / pressure))
    evict: Eviction = "half" if policy is Policy.STATIC_BARRIER else "newest"
    kind = ServerEngine if servers else PricedEngine
    need = None
    if policy is Policy.EXPECTED:
        need = Expected(LIMIT)
        need.learn(script.final - script.prompt for script in scripts(len(workload), SPREAD, seed + 1000))

    async def together() -> tuple[Measured, list[list[int]]]:
        made = [kind(replica, capacity, f"engine-{n}", evict, 1 / SCALE) for n in range(engines)]
        fleet, done_at, cpu = Fleet(policy, LIMIT, made, need), list[float](), time.process_time()
        tokens = await asyncio.gather(*(play(fleet, index, script, done_at) for index, script in enumerate(workload)))
        cpu_s, took_s = time.process_time() - cpu, done_at[-1]
        for engine in made:
            engine.close()
        cost = Measured(
            policy=policy.value,
            engines=engines,
            rollouts=rollouts,
            pressure=pressure,
            servers=servers,
            seed=seed,
            makespan_s=took_s,
            idle_share=1 - sum(engine.busy_s for engine in made) / (engines * took_s),
            tail_s=took_s - done_at[int(0.9 * len(done_at))],
            cpu_s=cpu_s,
            generated=sum(turn.own for script in workload for turn in script.turns),
            recomputed=fleet.recomputed_tokens,
            preempted=fleet.preemptions,
        )
        return cost, list(tokens)

    with asyncio.Runner(loop_factory=ComputedLoop) as runner:
        return runner.run(together())


def table(measured: list[Measured]) -> str:
    """Of each policy at each point: means over the seeds, times as ratios to `expected`."""
    ours = {(m.point, m.seed): m for m in measured if m.policy == Policy.EXPECTED.value}
    lines = [
        "| engines | rollouts | pressure | servers | policy | seeds | time | processor time | idle | tail s "
        "| preempted | recomputed / generated |",
        "|" + "---|" * 12,
    ]
    for point in sorted({m.point for m in measured}):
        for policy in Policy:
            mine = [m for m in measured if (m.point, m.policy) == (point, policy.value)]
            if not mine:
                continue
            pairs = [(m, ours[point, m.seed]) for m in mine]
            cells = [
                *(f"{number:g}" for number in point),
                f"`{policy.value}`",
                str(len(mine)),
                f"{statistics.mean(m.makespan_s / our.makespan_s for m, our in pairs):.2f}",
                f"{statistics.mean(m.cpu_s / our.cpu_s for m, our in pairs):.2f}",
                f"{statistics.mean(m.idle_share for m in mine):.2f}",
                f"{statistics.mean(m.tail_s for m in mine):.0f}",
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
    parser.add_argument("--servers", action="store_true", help="engines order turns as inference servers do")
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
            cost, tokens = run(policy, replica, options.engines, options.rollouts, pressure, options.servers, seed)
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
