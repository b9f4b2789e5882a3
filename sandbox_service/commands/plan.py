"""`plan`: how many cores, gateways and Redis servers a training run needs, from what a call costs.

Arithmetic of queues, no measurement: the costs come from a load report (`costs.json`, or `--costs` with your own
machine's), everything else is predicted. `loadtest/capacity.py` simulates the same and says how far both are off.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from sandbox_service.errors import SetupError
from sandbox_service.reasons import wording

UTILISATION = 0.7
"""Of each part, so that what arrives at random does not wait for long."""


@dataclass(frozen=True)
class Costs:
    """CPU milliseconds that one call takes in each part, the memory of one that waits, and where it was measured."""

    gateway: float
    redis: float
    execution: float
    """Worker, zygote, child and init together, for a program that does next to nothing."""
    idle_ms: float
    """Latency of one call on an idle service."""
    redis_kb: float
    source: str


@dataclass(frozen=True)
class Demand:
    calls: int
    over_s: float
    """The calls arrive at random over this time; 0: all at once."""
    mean_s: float
    """The mean latency that is wanted."""
    code_ms: float
    """CPU of the program itself, beyond what an empty one takes."""


@dataclass(frozen=True)
class Plan:
    calls_per_s: float
    worker_cores: int
    gateways: int
    redis_servers: int
    redis_mb: float
    mean_s: float
    first: str
    """The part that one of each would run into first, and at how many calls a second."""


def read_costs(path: Path | None = None) -> Costs:
    """Return the costs in a file that `loadtest.capacity --write` made, or those that came with the package."""
    try:
        text = path.read_text() if path else (files("sandbox_service.commands") / "costs.json").read_text()
        return TypeAdapter(Costs).validate_json(text)
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SetupError(f"{path} holds no costs: {where}: {wording(first['msg'])}") from error


def plan(demand: Demand, costs: Costs) -> Plan:
    """Return what is needed; SetupError if nothing would do. When all arrive at once, the last waits for the whole
    queue and the mean is half of it."""
    own_s = (costs.execution + demand.code_ms) / 1000
    idle_s = (costs.idle_ms + demand.code_ms) / 1000
    if demand.mean_s <= idle_s:
        raise SetupError(
            f"no number of cores answers in {demand.mean_s:g} s: a single call takes {idle_s:.3f} s; raise --mean-s"
        )
    if demand.over_s:
        rate = demand.calls / demand.over_s
        cores = max(1, math.ceil(rate * own_s / UTILISATION))
        while (mean_s := idle_s + waiting_s(rate, own_s, cores)) > demand.mean_s:
            cores += 1
    else:
        rate = demand.calls / (2 * (demand.mean_s - idle_s))
        cores = math.ceil(rate * own_s)  # a queue that is full keeps all workers busy
        mean_s = idle_s + demand.calls / (2 * cores / own_s)
    limits = {
        "one core of workers": 1 / own_s,
        "one gateway": 1000 / costs.gateway,
        "one Redis": 1000 / costs.redis,
    }
    # The execution scales by adding cores; of the others, what gives out first has to be split.
    first = min(("one gateway", "one Redis"), key=limits.__getitem__)
    return Plan(
        rate,
        cores,
        math.ceil(rate * costs.gateway / 1000 / UTILISATION),
        math.ceil(rate * costs.redis / 1000 / UTILISATION),
        demand.calls * costs.redis_kb / 1024,
        mean_s,
        f"{first}, at {limits[first]:.0f} calls/s",
    )


def waiting_s(rate: float, service_s: float, cores: int) -> float:
    """Mean wait of M/M/c after Sakasegawa (1977); infinite for a queue that only grows."""
    load = rate * service_s / cores
    if load >= 1:
        return math.inf
    busy: float = load ** (math.sqrt(2 * (cores + 1)) - 1)
    return service_s * busy / (cores * (1 - load))


def show(demand: Demand, costs: Costs, *, as_json: bool) -> int:
    found = plan(demand, costs)
    if as_json:
        print(json.dumps({"demand": vars(demand), "plan": vars(found), "costs": vars(costs)}, indent=1))
        return 0
    when = f"over {demand.over_s:g} s" if demand.over_s else "all at once"
    table = Table(title=f"{demand.calls:,} calls {when}, mean answer in {demand.mean_s:g} s")
    table.add_column("needed")
    table.add_column("", justify="right")
    for name, value in (
        ("calls a second", f"{found.calls_per_s:,.0f}"),
        ("cores for workers", f"{found.worker_cores:,}"),
        ("gateways, a core each", f"{found.gateways:,}"),
        ("Redis servers, a core each", f"{found.redis_servers:,}"),
        ("Redis memory for calls that wait, MiB", f"{found.redis_mb:,.0f}"),
        ("mean answer, predicted", f"{1000 * found.mean_s:,.0f} ms"),
        ("gives out first, if there is one of each", found.first),
    ):
        table.add_row(name, value)
    console = Console(width=100)
    console.print(table)
    console.print(f"Measured: the cost of a call, {costs.source}. Predicted: all of the above.", highlight=False)
    if found.redis_servers > 1:
        console.print(
            "More than one Redis means as many services side by side, each with its gateways and workers: give each "
            "process of the trainer the addresses of one. No client spreads its calls over services.",
            highlight=False,
        )
    return 0
