"""The capacity model: a discrete-event simulation of the service, calibrated by a load report and tested against it.

    python -m loadtest.capacity [--report loadtest/reports/load] [--write]

Each call takes CPU time of the gateway, Redis, its worker, the zygote and its child, in this order; gateway, Redis,
worker and zygote are one thread each, and everything shares the cores, in slices; these threads come before children,
as the scheduler lets those go first that sleep much. Parts of one call never overlap, batching is in the costs (they
are means of a loaded service), nothing else is modelled: no network, no page cache, no other load.

It predicts what the section `cores` of the report measured, on one CPU and on all, and prints how far off it is; the
costs come from the run on all CPUs. `--write` stores them for `sandbox-service plan` and writes CAPACITY.md: its table
is the command's arithmetic beside the simulation, its plot the simulation beside what was measured.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import simpy

from loadtest.load import traffic
from loadtest.load.crowd import percentile
from loadtest.load.report import load
from sandbox_service.commands.plan import Costs, Demand, Plan, plan

ROOT = Path(__file__).resolve().parent.parent
COSTS = ROOT / "sandbox_service" / "commands" / "costs.json"
PAGE, PLOT = ROOT / "CAPACITY.md", ROOT / "loadtest" / "results" / "capacity.png"
_SPREAD = 0.3
"""Standard deviation of a child's time, as a share of the mean of its program."""
_SLICE_S = 0.001
"""For so long a thread keeps its core while others wait for one."""
_SEEDS = range(5)
_MOST = 10_000
"""Calls of a simulated cluster; by then it has long been in balance."""
_ARRIVING, _STARTING = 0.6, 0.6
"""The shares of the gateway's, the worker's and Redis' work that come before the program runs."""


@dataclass(frozen=True)
class Parts:
    """CPU seconds of one call."""

    gateway: float
    redis: float
    worker: float
    zygote: float
    child: float
    init: float
    client: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())


Mix = Sequence[tuple[float, float]]
"""Programs that take different times: the weight of each, and its child's CPU time (only their ratios count)."""
_ONE_PROGRAM: Mix = ((1.0, 1.0),)


@dataclass(frozen=True)
class Prediction:
    per_s: float
    mean_s: float
    p50_s: float
    p99_s: float


def simulate(
    parts: Parts,
    *,
    cores: int,
    slots: int,
    arrivals: Sequence[float] | None = None,
    in_flight: int = 0,
    calls: int = 0,
    workers: int = 1,
    gateways: int = 1,
    redis_servers: int = 1,
    pause_s: float = 0.0,
    mix: Mix = _ONE_PROGRAM,
    seed: int = 0,
) -> Prediction:
    """Open loop: calls come at `arrivals`. Closed loop: `in_flight` at once until `calls` are done.

    `pause_s`: what an idle service takes beyond the CPU time (wake-ups, round trips).
    """
    draw = random.Random(seed)  # noqa: S311
    world = simpy.Environment()
    cpu = simpy.PriorityResource(world, cores)
    threads = {
        "gateway": [simpy.Resource(world) for _ in range(gateways)],
        "redis": [simpy.Resource(world) for _ in range(redis_servers)],
        "worker": [simpy.Resource(world) for _ in range(workers)],
        "zygote": [simpy.Resource(world) for _ in range(workers)],
    }
    free = simpy.Resource(world, slots)
    latencies: list[float] = []
    ends: list[float] = []

    def compute(seconds: float, priority: int) -> Iterator[Any]:
        while seconds > 0:
            with cpu.request(priority) as core:
                yield core
                yield world.timeout(min(seconds, _SLICE_S))
            seconds -= _SLICE_S

    def use(part: str | None, seconds: float, number: int) -> Iterator[Any]:
        if part is None:
            yield from compute(seconds, 1)
            return
        these = threads[part]
        with these[number % len(these)].request() as thread:
            yield thread
            yield from compute(seconds, 0)

    weights, times = zip(*mix, strict=True)
    mean, shape = sum(weight * time for weight, time in mix) / sum(weights), 1 / _SPREAD**2

    def child_s() -> float:
        (program,) = draw.choices(times, weights)
        return draw.gammavariate(shape, parts.child * program / mean / shape)

    def call(number: int) -> Iterator[Any]:
        begun = world.now
        yield from use(None, parts.client / 2, number)
        yield from use("gateway", parts.gateway * _ARRIVING, number)
        yield from use("redis", parts.redis / 2, number)
        slot = free.request()
        yield slot
        yield from use("worker", parts.worker * _STARTING, number)
        yield from use("zygote", parts.zygote, number)
        yield from use(None, child_s(), number)
        world.process(clean(slot, number))
        yield from use("worker", parts.worker * (1 - _STARTING), number)
        yield from use("redis", parts.redis / 2, number)
        yield from use("gateway", parts.gateway * (1 - _ARRIVING), number)
        yield from use(None, parts.client / 2, number)
        yield world.timeout(pause_s)
        latencies.append(world.now - begun)
        ends.append(world.now)

    def clean(slot: simpy.Event, number: int) -> Iterator[Any]:
        yield from use(None, parts.init, number)
        free.release(slot)

    def arriving() -> Iterator[Any]:
        for number, at in enumerate(arrivals or ()):
            yield world.timeout(at - world.now)
            world.process(call(number))

    def client(numbers: Iterator[int]) -> Iterator[Any]:
        for number in numbers:
            yield from call(number)

    if arrivals is not None:
        world.process(arriving())
    else:
        numbers = iter(range(calls))
        for _ in range(in_flight):
            world.process(client(numbers))
    world.run()
    latencies.sort()
    mean_s = sum(latencies) / len(latencies)
    return Prediction(len(ends) / max(ends), mean_s, percentile(latencies, 0.5), percentile(latencies, 0.99))


def poisson(rate: float, calls: int, seed: int = 0) -> list[float]:
    draw, at, times = random.Random(seed), 0.0, []  # noqa: S311
    for _ in range(calls):
        at += draw.expovariate(rate)
        times.append(at)
    return times


def parts_of(summary: dict[str, Any]) -> Parts:
    used = summary["cpu_ms_per_call"]
    names = {"client": "generator"}
    return Parts(**{name: used.get(names.get(name, name), 0.0) / 1000 for name in Parts.__dataclass_fields__})


@dataclass(frozen=True)
class Check:
    """One figure, predicted with several seeds and measured."""

    what: str
    predictions: Sequence[float]
    measured: float

    @property
    def predicted(self) -> float:
        return statistics.median(self.predictions)

    @property
    def off(self) -> float:
        return self.predicted / self.measured - 1


def validate(found: Mapping[str, Any], pause_s: float, mix: Mix) -> Iterator[Check]:
    """Predict capacity and latency on each number of CPUs from the costs on all of them, and compare."""
    every = max(map(int, found["cpus"]))
    parts = parts_of(found["cpus"][str(every)]["full"])
    for count in map(int, found["cpus"]):
        measured = found["cpus"][str(count)]
        setting: dict[str, Any] = {"cores": count, "slots": 2 * count, "mix": mix}
        calls, rate = measured["full"]["calls"], measured["rate_per_s"]
        full = [simulate(parts, **setting, in_flight=found["in_flight"], calls=calls, seed=seed) for seed in _SEEDS]
        yield Check(f"{count} CPU: capacity, calls/s", [run.per_s for run in full], measured["full"]["per_s"])
        single, latency = parts_of(measured["part"]), measured["part"]["latency_ms"]
        part = [
            simulate(single, **setting, arrivals=poisson(rate, calls, seed), pause_s=pause_s, seed=seed)
            for seed in _SEEDS
        ]
        yield Check(f"{count} CPU: mean at {rate:.0f}/s, ms", [1000 * run.mean_s for run in part], latency["mean"])
        yield Check(f"{count} CPU: p50, ms", [1000 * run.p50_s for run in part], latency["p50"])


SECTIONS = ("throughput", "latency", "burst", "cores")


@dataclass(frozen=True)
class Report:
    """What the model takes from a load report."""

    throughput: Mapping[str, Any]
    latency: Mapping[str, Any]
    burst: Mapping[str, Any]
    cores: Mapping[str, Any]
    source: str

    @classmethod
    def of(cls, sections: Mapping[str, Any]) -> Report:
        one = sections["throughput"]
        source = f"{one['machine']['cpu']}, {one['machine']['cpus']} CPUs, commit {one['commit']}"
        return cls(**{name: sections[name]["found"] for name in SECTIONS}, source=source)

    @property
    def parts(self) -> Parts:
        """Of `print(1)` in batches."""
        return parts_of(self.throughput["print"])

    @property
    def pause_s(self) -> float:
        """What one call on an idle service waits, beyond what it computes."""
        idle = self.latency["idle"]
        used = parts_of(idle)
        return max(0.0, float(idle["latency_ms"]["p50"]) / 1000 - (used.total - used.init))

    @property
    def mix(self) -> Mix:
        """The programs of the section `cores`, if it is the usual mix."""
        if self.cores["workload"] != "math":
            return _ONE_PROGRAM
        return [(weight, self.throughput[case]["cpu_ms_per_call"]["child"]) for case, weight in traffic.MATH.items()]


def costs_of(report: Report) -> Costs:
    parts = report.parts
    return Costs(
        gateway=round(1000 * parts.gateway, 3),
        redis=round(1000 * parts.redis, 3),
        execution=round(1000 * (parts.worker + parts.zygote + parts.child + parts.init), 3),
        idle_ms=round(report.latency["idle"]["latency_ms"]["p50"], 2),
        redis_kb=round(report.burst["redis_kb_per_call"], 2),
        source=report.source,
    )


def simulated_s(demand: Demand, found: Plan, report: Report) -> float:
    """The mean latency of a planned cluster, with a worker for each two cores of workers."""
    parts = report.parts
    parts = replace(parts, child=parts.child + demand.code_ms / 1000, client=0.0)
    workers = -(-found.worker_cores // 2)
    return simulate(
        parts,
        cores=found.worker_cores + found.gateways + found.redis_servers,
        slots=2 * found.worker_cores,
        arrivals=poisson(demand.calls / demand.over_s, _MOST) if demand.over_s else [0.0] * demand.calls,
        workers=workers,
        gateways=found.gateways,
        redis_servers=found.redis_servers,
        pause_s=report.pause_s,
    ).mean_s


def page(checks: Sequence[Check], costs: Costs, report: Report) -> str:
    spent = f"gateway {costs.gateway} ms, Redis {costs.redis} ms, worker with zygote and child {costs.execution} ms"
    lines = [
        "# Capacity",
        "",
        "What a cluster needs. **Measured**: the CPU time that one call takes in each part, the memory of one that",
        "waits, and the latency of an idle service:",
        f"{spent}; {costs.redis_kb} KiB; {costs.idle_ms} ms",
        f"({costs.source}).",
        "**Predicted**: everything else.",
        "",
        "`sandbox-service plan --rollouts 16384 --calls 2.75` answers for other numbers. `python -m loadtest.capacity",
        "--write` makes this page from a load report (`make load`).",
        "",
        "## The model beside what was measured",
        "",
        "A discrete-event simulation (`loadtest/capacity.py`): one thread each for gateway, Redis, worker and zygote,",
        "all on shared cores. The costs for capacities come from the run on all CPUs, those for latencies from the run",
        "whose latencies are predicted; no capacity or latency that it predicts went into it.",
        "",
        "| | predicted | measured | off by |",
        "|---|---|---|---|",
        *(
            f"| {check.what} | {check.predicted:.1f} ({min(check.predictions):.1f} to {max(check.predictions):.1f}) | "
            f"{check.measured:.1f} | {check.off:+.0%} |"
            for check in checks
        ),
        "",
        f"Predicted: the median of {len(_SEEDS)} seeds, and the lowest and highest of them. It is off by "
        f"{min(check.off for check in checks):+.0%} to {max(check.off for check in checks):+.0%}.",
        "",
        "![Predicted and measured](loadtest/results/capacity.png)",
        "",
        "## What a cluster needs",
        "",
        "For code that takes 5 ms of CPU itself, each part at most 70 % busy (workers all of it, where all calls come",
        "at once); gateways and Redis servers take a core each. A client takes the addresses of all gateways of one",
        "service. More than one Redis means services side by side, each with its own gateways and workers: every",
        "process of the trainer is given the addresses of one, for no client spreads its calls over services. The mean",
        "is the arithmetic of `plan`; simulated are such clusters with a worker for each two cores of workers.",
        "",
        "| calls | cores for workers | gateways | Redis | mean | simulated | gives out first, with one of each |",
        "|---|---|---|---|---|---|---|",
    ]
    demands = [("45,000 at once, mean 0.3 s", Demand(45_056, 0, 0.3, 5))]
    demands += [("45,000 at once, mean 10 s", Demand(45_056, 0, 10, 5))]
    demands += [(f"{rate:,}/s", Demand(rate * 100, 100, 0.3, 5)) for rate in (150, 1_000, 10_000, 100_000)]
    for title, demand in demands:
        found = plan(demand, costs)
        lines.append(
            f"| {title} | {found.worker_cores:,} | {found.gateways:,} | {found.redis_servers:,} | "
            f"{1000 * found.mean_s:,.0f} ms | {1000 * simulated_s(demand, found, report):,.0f} ms | {found.first} |"
        )
    return "\n".join(lines) + "\n"


def plot(found: Mapping[str, Any], pause_s: float, mix: Mix) -> None:
    """Latency over load on one CPU and on all, simulated, with the points that were measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    for colour, (count, measured) in zip(("#1b6ca8", "#c8553d"), found["cpus"].items(), strict=False):
        parts = parts_of(measured["part"])
        rates = [share * measured["full"]["per_s"] for share in (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)]
        runs = [
            simulate(
                parts, cores=int(count), slots=2 * int(count), arrivals=poisson(rate, 4000), pause_s=pause_s, mix=mix
            )
            for rate in rates
        ]
        axes.plot(rates, [1000 * run.mean_s for run in runs], color=colour, label=f"{count} CPU, mean, predicted")
        axes.plot(rates, [1000 * run.p99_s for run in runs], color=colour, linestyle=":", label=f"{count} CPU, p99")
        latency = measured["part"]["latency_ms"]
        axes.scatter([measured["rate_per_s"]] * 2, [latency["mean"], latency["p99"]], color=colour, zorder=3)
    axes.set_xlabel("calls/s (points: measured)")
    axes.set_ylabel("ms")
    axes.set_yscale("log")
    axes.legend(fontsize=8)
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, default=ROOT / "loadtest" / "reports" / "load")
    parser.add_argument("--write", action="store_true", help="store the costs for `plan`, and write CAPACITY.md")
    options = parser.parse_args()
    sections = load(options.report)
    if missing := [name for name in SECTIONS if name not in sections]:
        parser.error(
            f"there is no {', '.join(missing)} of this version in {options.report}: run `make load` first, or name "
            "its --report"
        )
    report = Report.of(sections)
    costs = costs_of(report)
    checks = list(validate(report.cores, report.pause_s, report.mix))
    for check in checks:
        print(f"{check.what:40} predicted {check.predicted:8.1f}  measured {check.measured:8.1f}  {check.off:+.0%}")
    if options.write:
        COSTS.write_text(json.dumps(asdict(costs), indent=1) + "\n")
        plot(report.cores, report.pause_s, report.mix)
        PAGE.write_text(page(checks, costs, report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
