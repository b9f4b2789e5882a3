"""What a client did, in numbers for a training step's log. Bounded: latencies are counted in buckets of 2 % width."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_WIDTH = math.log(1.02)
_SHORTEST_S = 1e-4


@dataclass(frozen=True)
class Stats:
    """Of all calls that were run and awaited through a client since `stats(reset=True)`, or since its start."""

    calls: int = 0
    """Calls that got a Result."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Results by status, as the caller got them."""
    errors: dict[str, int] = field(default_factory=dict)
    """Calls that got a SandboxError instead, by its code."""
    cancelled: int = 0
    """Calls whose caller stopped waiting."""
    retries: int = 0
    """Requests that were sent again because they were refused or broken."""
    infra_errors: int = 0
    """Executions that ended as `infra_error`, those included that a repeat made good."""
    p50_s: float | None = None
    p99_s: float | None = None
    """Seconds from `run` to its Result, repeats included; within 1 %. None before the first."""


class Recorder:
    """Counts, in one event loop."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.cancelled = 0
        self.retries = 0
        self.infra_errors = 0
        self.latencies: Counter[int] = Counter()

    def took(self, seconds: float) -> None:
        self.latencies[round(math.log(max(seconds, _SHORTEST_S)) / _WIDTH)] += 1


def summed(recorders: Iterable[Recorder]) -> Stats:
    """Return the numbers of several recorders as one. They may be counting meanwhile, so each is copied in one step."""
    total = Recorder()
    for each in recorders:
        total.statuses.update(dict(each.statuses))
        total.errors.update(dict(each.errors))
        total.latencies.update(dict(each.latencies))
        total.cancelled += each.cancelled
        total.retries += each.retries
        total.infra_errors += each.infra_errors
    return Stats(
        calls=total.statuses.total(),
        statuses=dict(total.statuses),
        errors=dict(total.errors),
        cancelled=total.cancelled,
        retries=total.retries,
        infra_errors=total.infra_errors,
        p50_s=_quantile(total.latencies, 0.50),
        p99_s=_quantile(total.latencies, 0.99),
    )


def _quantile(latencies: Counter[int], share: float) -> float | None:
    """Return the smallest latency that at least this share of all does not exceed."""
    rank = math.ceil(share * latencies.total())
    for bucket in sorted(latencies):
        rank -= latencies[bucket]
        if rank <= 0:
            return math.exp(bucket * _WIDTH)
    return None
