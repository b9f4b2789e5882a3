"""All calls in flight at once: the workers start when the last one is accepted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis

from loadtest.load import cost, crowd, traffic
from loadtest.load.bench import BATCH, Bench
from loadtest.load.cluster import Cluster, cluster
from loadtest.load.drive import ANSWER_S, Plan, Transport
from loadtest.load.pace import is_alike
from sandbox_service.queue.keys import with_prefix

_KEYS = with_prefix("sandbox")
STEADY = 384
"""In flight, where a burst is compared with the service's usual load."""


def burst(bench: Bench) -> dict[str, Any]:
    """All calls in flight at once, as streamed batches: the workers start after the last one is accepted."""
    calls = bench.scale.burst
    with cluster(workers=0, max_queued=2 * calls, default_timeout_s=ANSWER_S) as service:
        return _all_at_once(bench, service, calls, Transport.STREAM, BATCH, "streamed batches of 64")


def connections(bench: Bench) -> dict[str, Any]:
    """All calls in flight at once, each on a connection of its own: three gateways, three clients, three addresses."""
    calls = bench.scale.connections
    with cluster(gateways=3, workers=0, max_queued=2 * calls, default_timeout_s=ANSWER_S) as service:
        return _all_at_once(bench, service, calls, Transport.SINGLE, 1, "connections")


def _all_at_once(
    bench: Bench, service: Cluster, calls: int, transport: Transport, batch: int, what: str
) -> dict[str, Any]:
    workload = bench.workload or traffic.USUAL_AT_ONCE
    bench.begin(f"{calls} calls at once, {what}", calls)
    processes = 3
    each = calls // processes
    filled = 0.0
    peaks: dict[str, float] = {}
    client = redis.Redis.from_url(service.redis.url)
    empty_mb = client.info("memory")["used_memory"] / 2**20

    def meanwhile() -> None:
        nonlocal filled
        now = cost.take(service, time.monotonic())
        peaks.update({part: max(size, peaks.get(part, 0.0)) for part, size in now.rss_mb.items()})
        peaks["redis"] = max(peaks.get("redis", 0.0), client.info("memory")["used_memory"] / 2**20)
        if not filled and waiting(client) >= each * processes:
            filled = time.monotonic()
            service.add_worker()

    plans = []
    for number in range(processes):
        spread_s = calls / 3000
        requests = -(-each // batch)
        plan = Plan(
            (service.urls[number % len(service.urls)],),
            transport,
            1,
            batch,
            due_s=[spread_s * index / requests for index in range(requests)],
            sources=(f"127.0.0.{2 + number}",),
            keep_alive=False,
        )
        plans.append((plan, traffic.shots(workload, each, number)))
    sent = crowd.send(service, plans, bench.told, meanwhile=meanwhile)
    client.close()
    steady = bench.closed(service, workload, bench.scale.small, transport, STEADY // batch, processes)
    draining = _middle_rate(sent.done)
    return {
        **sent.summary(),
        "workload": workload,
        "filled_after_s": filled - sent.start,
        "rss_peak_mb": peaks,
        "redis_kb_per_call": 1024 * (peaks["redis"] - empty_mb) / calls,
        "first_answer_after_filled_s": sent.done[0] - filled if sent.done else None,
        "per_s_while_draining": draining,
        "steady": steady.summary(),
        "to_steady": draining / steady.per_s,
        "valid": sent.account.is_valid and steady.account.is_valid and is_alike(sent.work_ms, steady.work_ms),
        "order": _inversions(sent),
        "series": sent.series(),
    }


def waiting(client: redis.Redis) -> int:
    """Count the calls that the queue has and no worker."""
    return sum(client.xlen(key) for key in client.scan_iter(f"{_KEYS['WORK']}*", count=1000))


def _middle_rate(done: Sequence[float]) -> float:
    """Calls a second between the first and the last tenth of the answers."""
    tenth = len(done) // 10
    return (len(done) - 2 * tenth) / max(done[-tenth - 1] - done[tenth], 1e-9)


def _inversions(sent: crowd.Outcome) -> dict[str, float]:
    """How far calls ended from the place they were sent at, as a share of all; 0 is first come, first served."""
    ended = sorted(
        (done, due, place, number)
        for number, record in enumerate(sent.records)
        for done, due, place in zip(record.done, record.due, record.place, strict=True)
    )
    arrived = {key: rank for rank, key in enumerate(sorted((due, place, number) for _, due, place, number in ended))}
    moved = sorted(
        abs(rank - arrived[due, place, number]) / len(ended) for rank, (_, due, place, number) in enumerate(ended)
    )
    return {"p50": crowd.percentile(moved, 0.5), "p99": crowd.percentile(moved, 0.99), "max": moved[-1]}
