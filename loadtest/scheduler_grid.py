"""Every policy of the rollout scheduler, simulated over a grid of engines, spread of the lengths and KV pressure.

    python -m loadtest.scheduler_grid [--engines 4] [--spread 0.6] [--pressure 1 2 4 8] [--seeds 0] [--out FILE]

`--out` appends a line of JSON per simulation, and skips those that the file has: a run that was stopped goes on.
`scheduler_report.py` makes the table and the plot of it.

256 rollouts per engine, as in the paper (16,384 on 64 GPUs). Pressure: what all rollouts hold at full length, in
multiples of the KV cache. Every policy gets the same rollouts (same seed). Three rows are not policies:
`expected_cold` is `expected` in the first step of a run, without the lengths of a step before (as many rollouts, other
seed); `oracle_order` is `expected` with the longest rollout first, which nobody can know; `bound` no schedule can beat:
the work of an engine whose cache is always full, or the longest rollout alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import asdict
from pathlib import Path

from loadtest.scheduler_engine import Evict, Outcome, Speed
from loadtest.scheduler_sim import Simulation
from loadtest.scheduler_workload import LIMIT, Script, scripts
from sandbox_service.trainer.need import Expected
from sandbox_service.trainer.scheduler import Policy

ROLLOUTS_PER_ENGINE = 256


def simulate(name: str, engines: int, spread: float, pressure: float, seed: int) -> Outcome:
    """One row at one point; the paper's baseline throws out half of a batch, the others the newest."""
    workload = scripts(engines * ROLLOUTS_PER_ENGINE, spread, seed)
    capacity = int(sum(script.final for script in workload) / engines / pressure)
    if name == BOUND:
        return Outcome(makespan_s=bound(workload, engines, capacity))
    policy = Policy.EXPECTED if name in (COLD, ORACLE) else Policy(name)
    evict = Evict.HALF if policy is Policy.STATIC_BARRIER else Evict.NEWEST
    need = None
    if policy is Policy.EXPECTED:
        need = Expected(LIMIT)
        if name != COLD:
            earlier = scripts(engines * ROLLOUTS_PER_ENGINE, spread, seed + 1000)
            need.learn(script.final - script.prompt for script in earlier)
    if name == ORACLE:
        workload.sort(key=lambda script: -script.final)
    return Simulation(workload, policy, engines, capacity, need, evict).run()


def bound(workload: list[Script], engines: int, capacity: int, speed: Speed | None = None) -> float:
    """Seconds that no schedule stays below: each token that a rollout holds takes one of `capacity` places for each of
    its decoding steps, and the longest rollout takes its time even alone.
    """
    speed = speed or Speed()
    own = fresh = occupied = 0.0
    longest = 0.0
    for script in workload:
        length, alone = float(script.prompt), 0.0
        for turn in script.turns:
            length += turn.tool
            alone += speed.duration(turn.own, 1, length) + (turn.tool_s if turn.tool else 0.0)
            occupied += turn.own * (length + turn.own / 2)
            length += turn.own
            own += turn.own
        fresh += script.prompt + sum(turn.tool for turn in script.turns)
        longest = max(longest, alone)
    work = max(occupied / capacity * speed.weights_s, own * speed.sequence_s)
    return max(longest, (work + occupied * speed.cached_s + fresh * speed.prefill_s) / engines)


BOUND, COLD, ORACLE = "bound", "expected_cold", "oracle_order"
ROWS = [*(policy.value for policy in Policy), COLD, ORACLE, BOUND]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[4])
    parser.add_argument("--spread", type=float, nargs="+", default=[0.6])
    parser.add_argument("--pressure", type=float, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--out", type=Path, help="append the results to this file, as JSON lines")
    options = parser.parse_args()
    keys = ("engines", "spread", "pressure", "seed", "row")
    there = options.out.read_text().splitlines() if options.out and options.out.exists() else []
    done = {tuple(json.loads(line)[key] for key in keys) for line in there}
    print("engines spread pressure seed row              makespan_s tail_s idle recomputed/generated preempted batch")
    for point in itertools.product(options.engines, options.spread, options.pressure, options.seeds, options.rows):
        if point in done:
            continue
        o = simulate(point[-1], *point[:-1])
        engines, spread, pressure, seed, name = point
        print(
            f"{engines:7} {spread:6} {pressure:8} {seed:4} {name:16} {o.makespan_s:10.1f} {o.tail_s:6.1f} "
            f"{o.idle_share:4.2f} {o.recomputed / max(1, o.generated):20.3f} {o.preempted:9} {o.mean_batch:5.0f}",
            flush=True,
        )
        if options.out:
            with options.out.open("a") as out:
                out.write(json.dumps(dict(zip(keys, point, strict=True)) | asdict(o)) + "\n")


if __name__ == "__main__":
    main()
