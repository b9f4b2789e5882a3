"""What the load test measures: one function per section of the report; each starts the service it needs.

A section returns plain JSON. Baselines and service take turns, and a ratio is taken within one turn, so that what else
the machine does hits both.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis
from rich.progress import Progress, TaskID

from loadtest.load import baselines, cost, crowd, traffic
from loadtest.load.cluster import Cluster, cluster
from loadtest.load.drive import Plan, Transport
from sandbox_service.queue.keys import with_prefix

_KEYS = with_prefix("sandbox")
BATCH = 64
ROLLOUTS, CALLS_PER_ROLLOUT = 512 * 32, 2.75
"""One RL step of the paper; a step of fewer calls is the same arrivals, fewer of them."""


@dataclass(frozen=True)
class Scale:
    """How much is done: what a test can afford, or what a report is made of."""

    rounds: int
    small: int
    """Calls of print(1) in one turn; numpy and sympy get fewer."""
    latency: int
    mix: int
    step: int
    burst: int
    connections: int
    cpu_bound: int
    clients: int


QUICK = Scale(1, 256, 40, 128, 300, 512, 256, 8, 4)
FULL = Scale(3, 3072, 600, 512, 45_000, 45_000, 45_000, 100, 32)


class Bench:
    """What every section gets: the scale, the workload of the step and of the bursts, and a bar to move."""

    def __init__(
        self, scale: Scale, progress: Progress, workload: str = "math", log: Path | None = None, rate_share: float = 0.7
    ) -> None:
        self.scale = scale
        self.workload = workload
        self.log = log
        self.rate_share = rate_share
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, what: str, total: int) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(what, total=total)
        self._progress.refresh()

    def told(self, count: int) -> None:
        assert self._task is not None
        self._progress.advance(self._task, count)
        self._progress.refresh()

    def closed(
        self, service: Cluster, workload: str, calls: int, transport: Transport, connections: int, processes: int = 1
    ) -> crowd.Outcome:
        """Closed loop: as many requests at once as connections, spread over client processes."""
        self.begin(f"{workload}, {transport.value}, {connections} at once", calls)
        each = -(-calls // processes)
        batch = 1 if transport is Transport.SINGLE else BATCH
        plan = Plan(tuple(service.urls), transport, connections // processes, batch)
        return crowd.send(
            service, [(plan, traffic.shots(workload, each, seed)) for seed in range(processes)], self.told
        )


def throughput(bench: Bench) -> dict[str, Any]:
    """Three small programs in batches, next to cold interpreters, a jail per call, and the floor; in turns."""
    cases = {}
    scale = bench.scale
    with cluster() as service, ExitStack() as stack:
        floors = {case: stack.enter_context(baselines.warm_floor(case)) for case in traffic.SMALL}
        for case in traffic.SMALL:
            calls = scale.small if case == "print" else scale.small // (2 if case == "numpy" else 4)
            share = {"print": 10, "numpy": 50, "sympy": 60}[case]
            bench.closed(service, case, BATCH * 4, Transport.BATCH, 4)  # warm
            floors[case].measure(50)
            turns = []
            for _ in range(scale.rounds):
                sent = bench.closed(service, case, calls, Transport.BATCH, 4)
                bench.begin(f"{case}: baselines", 3)
                bare = baselines.cold(case, max(8, calls // share))
                bench.told(1)
                jailed = baselines.jailed(case, max(8, calls // share)) if case == "print" else None
                bench.told(1)
                forked = floors[case].measure(max(50, calls // 8))
                bench.told(1)
                turns.append(
                    {
                        "service": sent.summary(),
                        "cold": asdict(bare),
                        "jailed": asdict(jailed) if jailed else None,
                        "floor": asdict(forked),
                        **_ratios(sent, bare, jailed, forked),
                    }
                )
            cases[case] = {"turns": turns, **_median(turns)}
    return cases


def _ratios(
    sent: crowd.Outcome, bare: baselines.Rate, jailed: baselines.Rate | None, forked: baselines.Rate
) -> dict[str, Any]:
    calls = max(1, sent.answered)
    used = sent.account.cpu_s
    core = sum(used.get(part, 0.0) for part in ("worker", "zygote", "init", "child"))
    return {
        "to_cold": sent.per_s / bare.per_s,
        "to_jailed": sent.per_s / jailed.per_s if jailed else None,
        "cpu_to_cold": bare.cpu_ms / (1000 * sent.account.service_s / calls),
        "cpu_to_floor": 1000 * sent.account.service_s / calls / forked.cpu_ms,
        "core_to_floor": 1000 * core / calls / forked.cpu_ms,
    }


def _median(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def median(name: str) -> float | None:
        values = [turn[name] for turn in turns if turn[name] is not None]
        return statistics.median(values) if values else None

    names = ("to_cold", "to_jailed", "cpu_to_cold", "cpu_to_floor", "core_to_floor")
    return {
        **{name: median(name) for name in names},
        "per_s": statistics.median(turn["service"]["per_s"] for turn in turns),
        "cold_per_s": statistics.median(turn["cold"]["per_s"] for turn in turns),
        "jailed_per_s": statistics.median(turn["jailed"]["per_s"] for turn in turns) if turns[0]["jailed"] else None,
        "floor_ms": statistics.median(turn["floor"]["cpu_ms"] for turn in turns),
        "valid": all(turn["service"]["valid"] for turn in turns),
    }


def latency(bench: Bench) -> dict[str, Any]:
    """One `print(1)` after the other over HTTP, on an idle service; and as many single requests as it takes."""
    with cluster() as service:
        bench.closed(service, "print", 20, Transport.SINGLE, 1)
        idle = bench.closed(service, "print", bench.scale.latency, Transport.SINGLE, 1)
        single = bench.closed(service, "print", bench.scale.small, Transport.SINGLE, 64, 2)
        stream = bench.closed(service, "print", bench.scale.small, Transport.STREAM, 4)
    return {"idle": idle.summary(), "single": single.summary(), "stream": stream.summary()}


def mixes(bench: Bench) -> dict[str, Any]:
    """The tool-call mix (floods, time-outs, long code), those calls of it that end by themselves, and HumanEval."""
    names = ["toolcalls", "tools", *(["humaneval"] if traffic.workload.humaneval_path().exists() else [])]
    with cluster() as service:
        return {name: bench.closed(service, name, bench.scale.mix, Transport.STREAM, 4).summary() for name in names}


def replay(bench: Bench) -> dict[str, Any]:
    """A recorded log: at the times it was recorded at, if it says them, else as fast as it goes."""
    assert bench.log is not None
    shots, due_s = traffic.recorded(bench.log)
    with cluster() as service:
        bench.begin(f"{bench.log.name}: {len(shots)} calls", len(shots))
        plan = Plan(tuple(service.urls), Transport.SINGLE, 64, due_s=due_s)
        sent = crowd.send(service, [(plan, shots)], bench.told)
    return {"log": bench.log.name, "open_loop": due_s is not None, **sent.summary(), "series": sent.series()}


def step(bench: Bench) -> dict[str, Any]:
    """One RL step, open loop at a share of the measured capacity, from many client processes.

    Calls arrive as from rollouts that think for some seconds between their calls: at random, and evenly over the step.
    """
    scale = bench.scale
    with cluster() as service:
        capacity = bench.closed(service, bench.workload, scale.small, Transport.STREAM, 4)
        rate = bench.rate_share * capacity.per_s
        bench.begin(f"one RL step: {scale.step} calls at {rate:.0f}/s", scale.step)
        plans = []
        each = scale.step // scale.clients
        for number in range(scale.clients):
            draw = random.Random(number)  # noqa: S311
            due, times = 0.0, []
            for _ in range(each):
                due += draw.expovariate(rate / scale.clients)
                times.append(due)
            plan = Plan(tuple(service.urls), Transport.SINGLE, 1, due_s=times)
            plans.append((plan, traffic.shots(bench.workload, each, number)))
        sent = crowd.send(service, plans, bench.told)
    return {
        "capacity_per_s": capacity.per_s,
        "rate_per_s": rate,
        "processes": scale.clients,
        "workload": bench.workload,
        **sent.summary(),
        "series": sent.series(),
    }


def burst(bench: Bench) -> dict[str, Any]:
    """All calls in flight at once, as streamed batches: the workers start after the last one is accepted."""
    calls = bench.scale.burst
    with cluster(workers=0, max_queued=2 * calls) as service:
        return _all_at_once(bench, service, calls, Transport.STREAM, BATCH, "streamed batches of 64")


def connections(bench: Bench) -> dict[str, Any]:
    """All calls in flight at once, each on a connection of its own: three gateways, three clients, three addresses."""
    calls = bench.scale.connections
    with cluster(gateways=3, workers=0, max_queued=2 * calls) as service:
        return _all_at_once(bench, service, calls, Transport.SINGLE, 1, "connections")


def _all_at_once(
    bench: Bench, service: Cluster, calls: int, transport: Transport, batch: int, what: str
) -> dict[str, Any]:
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
        plans.append((plan, traffic.shots(bench.workload, each, number)))
    sent = crowd.send(service, plans, bench.told, meanwhile=meanwhile)
    client.close()
    return {
        **sent.summary(),
        "workload": bench.workload,
        "filled_after_s": filled - sent.start,
        "rss_peak_mb": peaks,
        "redis_kb_per_call": 1024 * (peaks["redis"] - empty_mb) / calls,
        "first_answer_after_filled_s": sent.done[0] - filled if sent.done else None,
        "per_s_while_draining": _middle_rate(sent.done),
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


_SPIN = "n = 0\nfor i in range(1_000_000):\n    n += i\nprint(n)"


def slots(bench: Bench) -> dict[str, Any]:
    """A program that only computes, in one slot and in two, beside one plain process and two of them."""
    calls = bench.scale.cpu_bound
    with cluster(slots=1) as one, cluster(slots=2) as two:
        turns = []
        for _ in range(bench.scale.rounds):
            rates = [_spin(bench, service, calls * count) for count, service in ((1, one), (2, two))]
            plain = [_plain(count, calls // 4) for count in (1, 2)]
            turns.append(
                {
                    "service": rates[1] / rates[0],
                    "plain": plain[1] / plain[0],
                    "ratio": rates[1] / rates[0] / (plain[1] / plain[0]),
                    "per_s": rates,
                    "plain_per_s": plain,
                }
            )
    return {"turns": turns, "ratio": statistics.median(turn["ratio"] for turn in turns)}


def _spin(bench: Bench, service: Cluster, calls: int) -> float:
    shot = traffic.Shot(
        traffic.Call(code=_SPIN).model_dump_json(exclude_defaults=True).encode(),
        "ok",
        traffic.workload.sha256("499999500000\n"),
    )
    bench.begin(f"{calls} calls that compute", calls)
    plan = Plan(tuple(service.urls), Transport.STREAM, 1, calls)
    return crowd.send(service, [(plan, [shot] * calls)], bench.told).per_s


def _plain(processes: int, rounds: int) -> float:
    code = f"for _ in range({rounds}):\n    " + _SPIN.replace("\n", "\n    ").replace("print(n)", "")
    begun = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    for each in running:
        each.wait(300)
    return processes * rounds / (time.monotonic() - begun)


def workers(bench: Bench) -> dict[str, Any]:
    """One worker with all slots, and two with half of them, each in a network namespace of its own; one Redis."""
    half = cost.CPUS
    with cluster(slots=2 * half) as one, cluster(workers=0, slots=half) as two:
        for _ in range(2):
            two.add_worker(("unshare", "--net"))
        two.wait_ready()
        turns = []
        for _ in range(max(1, bench.scale.rounds - 1)):
            outcomes = [
                bench.closed(service, "print", bench.scale.small, Transport.STREAM, 4) for service in (one, two)
            ]
            turns.append({"one": outcomes[0].summary(), "two": outcomes[1].summary()})
    ratio = statistics.median(turn["two"]["per_s"] / turn["one"]["per_s"] for turn in turns)
    return {"turns": turns, "ratio": ratio, "lost": sum(turn["two"]["lost"] for turn in turns)}


def cores(bench: Bench) -> dict[str, Any]:
    """Everything on one CPU, and on all: capacity, and latency at a share of it (`capacity.py` is tested by it)."""
    found = {}
    every, calls = os.sched_getaffinity(0), bench.scale.small // 2
    for count in sorted({1, len(every)}):
        os.sched_setaffinity(0, sorted(every)[:count])  # the service and the clients inherit it
        try:
            with cluster() as service:
                bench.closed(service, bench.workload, BATCH * 4, Transport.STREAM, 4)
                full = bench.closed(service, bench.workload, calls, Transport.STREAM, 4)
                rate = bench.rate_share * full.per_s
                draw, due, times = random.Random(count), 0.0, []  # noqa: S311
                for _ in range(calls):
                    due += draw.expovariate(rate)
                    times.append(due)
                bench.begin(f"{count} CPUs, open loop at {rate:.0f}/s", len(times))
                plan = Plan(tuple(service.urls), Transport.SINGLE, 1, due_s=times)
                shots = traffic.shots(bench.workload, len(times))
                part = crowd.send(service, [(plan, shots)], bench.told)
        finally:
            os.sched_setaffinity(0, every)
        found[str(count)] = {"full": full.summary(), "rate_per_s": rate, "part": part.summary()}
    return {"workload": bench.workload, "in_flight": BATCH * 4, "cpus": found}


Section = Callable[[Bench], dict[str, Any]]
SECTIONS: dict[str, Section] = {
    each.__name__: each for each in (throughput, latency, step, burst, connections, cores, workers, slots, mixes)
}
"""All but `replay`, which needs a log."""
