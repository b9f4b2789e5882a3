"""One RL step, open loop: rollouts that think between their calls, from many client processes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from loadtest.load import crowd, traffic
from loadtest.load.bench import Bench
from loadtest.load.cluster import cluster
from loadtest.load.drive import Plan, Record, Transport
from loadtest.load.pace import is_alike

CALLS = (1, 2, 3, 5)
"""Of a rollout; as many rollouts make one as two, three or five: 2.75 on average, as the paper's."""
THINK_S = 10.0
"""Mean of what a policy takes to write its next call (or its answer), exponential."""

_AT_ONCE = 8
"""Requests of each client process, when capacity is measured: together as many calls as four streamed batches."""


@dataclass
class Schedule:
    """When each call of one client process is due, in this order, and which rollout's it is."""

    due_s: list[float] = field(default_factory=list)
    rollout: list[int] = field(default_factory=list)


def schedule(rollouts: int, step_s: float, seed: int) -> Schedule:
    """Rollouts begin at any time of the step. A call that is due after its end comes in its beginning instead, as one
    of the step before: so the rate is the same all the time."""
    draw = random.Random(seed)  # noqa: S311
    due = []
    for rollout in range(rollouts):
        at = draw.uniform(0, step_s)
        for _ in range(CALLS[rollout % len(CALLS)]):
            at += draw.expovariate(1 / THINK_S)
            due.append((at % step_s, rollout))
    due.sort()
    return Schedule([at for at, _ in due], [rollout for _, rollout in due])


def step(bench: Bench) -> dict[str, Any]:
    """One RL step, open loop at a share of the measured capacity, from many client processes.

    Capacity is that of the same clients, with a request for each call; what streamed batches reach is told beside it.
    """
    scale, workload = bench.scale, bench.workload or traffic.USUAL
    each = scale.rollouts // scale.clients
    with cluster() as service:

        def full() -> crowd.Outcome:
            return bench.closed(
                service, workload, scale.small, Transport.SINGLE, _AT_ONCE * scale.clients, scale.clients
            )

        streamed = bench.closed(service, workload, scale.small, Transport.STREAM, 4)
        capacity = full()
        rate = bench.rate_share * capacity.per_s
        step_s = scale.clients * len(schedule(each, 1, 0).due_s) / rate
        schedules = [schedule(each, step_s, seed) for seed in range(scale.clients)]
        calls = sum(len(one.due_s) for one in schedules)
        bench.begin(f"one RL step: {calls} calls at {rate:.0f}/s", calls)
        plans = [
            (
                Plan(tuple(service.urls), Transport.SINGLE, 1, due_s=one.due_s),
                traffic.shots(workload, len(one.due_s), seed),
            )
            for seed, one in enumerate(schedules)
        ]
        sent = crowd.send(service, plans, bench.told)
        after = full()
    early = sum(sum(_early(one, record)) for one, record in zip(schedules, sent.records, strict=True))
    return {
        "streamed": streamed.summary(),
        "before": capacity.summary(),
        "behind": after.summary(),
        "rate_per_s": rate,
        "rollouts": each * scale.clients,
        "think_s": THINK_S,
        "early": early,
        "processes": scale.clients,
        "workload": workload,
        **sent.summary(),
        "valid": sent.account.is_valid and is_alike(capacity.per_s, after.per_s),
        "series": sent.series(),
    }


def _early(plan: Schedule, record: Record) -> Iterator[bool]:
    """Tell of each call whether it was due before the one that its rollout had made before was answered."""
    done = dict(zip(record.place, record.done, strict=True))
    due = dict(zip(record.place, record.due, strict=True))
    last: dict[int, int] = {}
    for place, rollout in enumerate(plan.rollout):
        if rollout in last and place in due and last[rollout] in done:
            yield due[place] < done[last[rollout]]
        last[rollout] = place
