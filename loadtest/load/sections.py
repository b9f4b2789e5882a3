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
from dataclasses import asdict
from typing import Any

from loadtest.load import baselines, cost, crowd, traffic
from loadtest.load.at_once import burst, connections
from loadtest.load.bench import BATCH, Bench
from loadtest.load.cluster import Cluster, cluster
from loadtest.load.drive import Plan, Transport
from loadtest.load.pace import is_alike
from loadtest.load.profile import profile
from loadtest.load.step import step


def throughput(bench: Bench) -> dict[str, Any]:
    """Three small programs in batches, next to cold interpreters, a jail per call, and the floor; in turns."""
    cases = {}
    scale = bench.scale
    with cluster() as service, ExitStack() as stack:
        floors = {case: stack.enter_context(baselines.warm_floor(case)) for case in traffic.SMALL}
        for case in traffic.SMALL:
            calls = scale.turn // {"print": 1, "numpy": 2, "sympy": 4}[case]
            share = {"print": 5, "numpy": 25, "sympy": 32}[case]
            bench.closed(service, case, BATCH * 4, Transport.BATCH, 4)  # warm
            floors[case].measure(50)
            turns = []
            for _ in range(scale.turns):
                sent = bench.closed(service, case, calls, Transport.BATCH, 4)
                empty = sent
                if case != "print":
                    empty = bench.closed(service, f"empty {case}", calls // 2, Transport.BATCH, 4)
                bench.begin(f"{case}: baselines", 3)
                before = cost.take(None, time.monotonic())
                bare = baselines.cold(case, max(8, calls // share))
                bench.told(1)
                jailed = baselines.jailed(case, max(8, calls // share)) if case == "print" else None
                bench.told(1)
                forked = floors[case].measure(max(50, calls // 8))
                bench.told(1)
                beside = cost.take(None, time.monotonic()).since(before)
                turns.append(
                    {
                        "service": _of_turn(sent),
                        "empty": None if empty is sent else _of_turn(empty),
                        "baselines": {"foreign_share": beside.foreign_share},
                        "cold": asdict(bare),
                        "jailed": asdict(jailed) if jailed else None,
                        "floor": asdict(forked),
                        **_ratios(sent, bare, jailed),
                        **_to_floor("cpu_to_floor", "core_to_floor", sent, forked),
                        **_to_floor("empty_to_floor", "empty_core_to_floor", empty, forked),
                    }
                )
            cases[case] = {"turns": turns, **_median(turns)}
    return cases


def _ratios(sent: crowd.Outcome, bare: baselines.Rate, jailed: baselines.Rate | None) -> dict[str, Any]:
    return {
        "to_cold": sent.per_s / bare.per_s,
        "to_jailed": sent.per_s / jailed.per_s if jailed else None,
        "cpu_to_cold": bare.cpu_ms * sent.answered / (1000 * sent.account.service_s),
    }


def _to_floor(whole: str, core: str, sent: crowd.Outcome, forked: baselines.Rate) -> dict[str, float]:
    """CPU time of a call in multiples of the floor: of the whole service, and of what executes it alone."""
    floor_s = forked.cpu_ms * max(1, sent.answered) / 1000
    executing_s = sum(sent.account.cpu_s.get(part, 0.0) for part in ("worker", "zygote", "init", "child"))
    return {whole: sent.account.service_s / floor_s, core: executing_s / floor_s}


def _median(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def median(name: str) -> float | None:
        values = [turn[name] for turn in turns if turn[name] is not None]
        return statistics.median(values) if values else None

    def mean(name: str) -> dict[str, float]:
        parts = turns[0]["service"][name]
        return {part: statistics.fmean(turn["service"][name].get(part, 0.0) for turn in turns) for part in parts}

    names = ("to_cold", "to_jailed", "cpu_to_cold", "cpu_to_floor", "core_to_floor")
    names += ("empty_to_floor", "empty_core_to_floor")
    return {
        **{name: median(name) for name in names},
        **{name: mean(name) for name in ("cpu_ms_per_call", "faults_per_call")},
        "cold_cpu_ms": statistics.median(turn["cold"]["cpu_ms"] for turn in turns),
        "per_s": statistics.median(turn["service"]["per_s"] for turn in turns),
        "cold_per_s": statistics.median(turn["cold"]["per_s"] for turn in turns),
        "jailed_per_s": statistics.median(turn["jailed"]["per_s"] for turn in turns) if turns[0]["jailed"] else None,
        "floor_ms": statistics.median(turn["floor"]["cpu_ms"] for turn in turns),
        "valid": all(_were_alone([turn[name] for turn in turns]) for name in ("service", "baselines")),
    }


def _of_turn(sent: crowd.Outcome) -> dict[str, Any]:
    """What a report needs of one turn; whether it is valid is a question for all of them."""
    return {name: value for name, value in sent.summary().items() if name != "valid"}


def _were_alone(turns: Sequence[dict[str, Any]]) -> bool:
    """Tell whether others took little of the machine. A single turn may have the kernel's work for the one before."""
    return statistics.fmean(turn["foreign_share"] for turn in turns) < cost.BUSY_LIMIT


def latency(bench: Bench) -> dict[str, Any]:
    """One `print(1)` after the other over HTTP, on an idle service; and as many single requests as it takes."""
    with cluster() as service:
        bench.closed(service, "print", 20, Transport.SINGLE, 1)
        idle = bench.closed(service, "print", bench.scale.latency, Transport.SINGLE, 1)
        single = bench.closed(service, "print", bench.scale.small, Transport.SINGLE, 64, 2)
    return {"idle": idle.summary(), "single": single.summary()}


def fronts(bench: Bench) -> dict[str, Any]:
    """`print(1)` by each way into the service, 256 in flight: over HTTP and gRPC, one by one and in batches."""
    found = {}
    with cluster(rpc=True) as service:
        bench.closed(service, "print", BATCH * 4, Transport.BATCH, 4)  # warm
        for way in Transport:
            at_once = 4 if not way.one_by_one else 4 * BATCH
            found[way.value] = bench.closed(service, "print", bench.scale.small, way, at_once).summary()
    return found


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


_SPIN = "n = 0\nfor i in range(1_000_000):\n    n += i\nprint(n)"


def slots(bench: Bench) -> dict[str, Any]:
    """A program that only computes, in one slot and in two, beside one plain process and two of them."""
    calls = bench.scale.cpu_bound
    with cluster(slots=1) as one, cluster(slots=2) as two:
        turns = []
        for _ in range(-(-bench.scale.turns // 3)):
            sent = [_spin(bench, service, calls * count) for count, service in ((1, one), (2, two))]
            rates = [each["per_s"] for each in sent]
            before = cost.take(None, time.monotonic())
            plain = [_plain(count, calls // 4) for count in (1, 2)]
            beside = cost.take(None, time.monotonic()).since(before)
            turns.append(
                {
                    "service": rates[1] / rates[0],
                    "plain": plain[1] / plain[0],
                    "ratio": rates[1] / rates[0] / (plain[1] / plain[0]),
                    "slots": sent,
                    "baselines": {"foreign_share": beside.foreign_share},
                    "plain_per_s": plain,
                }
            )
    measured = [each for turn in turns for each in (*turn["slots"], turn["baselines"])]
    ratio = statistics.median(turn["ratio"] for turn in turns)
    return {"turns": turns, "ratio": ratio, "valid": _were_alone(measured)}


def _spin(bench: Bench, service: Cluster, calls: int) -> dict[str, Any]:
    shot = traffic.Shot(
        traffic.Call(code=_SPIN).model_dump_json(exclude_defaults=True).encode(),
        "ok",
        traffic.workload.sha256("499999500000\n"),
    )
    bench.begin(f"{calls} calls that compute", calls)
    plan = Plan(tuple(service.urls), Transport.STREAM, 1, calls)
    return _of_turn(crowd.send(service, [(plan, [shot] * calls)], bench.told))


def _plain(processes: int, rounds: int) -> float:
    code = f"for _ in range({rounds}):\n    " + _SPIN.replace("\n", "\n    ").replace("print(n)", "")
    begun = time.monotonic()
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(processes)]
    for each in running:
        each.wait(300)
    return processes * rounds / (time.monotonic() - begun)


def workers(bench: Bench) -> dict[str, Any]:
    """One worker; two like it, in network namespaces of their own; and two with half of its slots. A Redis for each."""
    slots = 2 * cost.CPUS
    with ExitStack() as stack:
        services = {"one": stack.enter_context(cluster(slots=slots))}
        for name, each in (("two", slots), ("halves", cost.CPUS)):
            services[name] = stack.enter_context(cluster(workers=0, slots=each))
            for _ in range(2):
                services[name].add_worker(("unshare", "--net"))
            services[name].wait_ready()
        turns = [
            {
                name: _of_turn(bench.closed(service, "print", bench.scale.turn, Transport.STREAM, 4))
                for name, service in services.items()
            }
            for _ in range(bench.scale.turns)
        ]

    def to_one(name: str) -> float:
        return statistics.median(turn[name]["per_s"] / turn["one"]["per_s"] for turn in turns)

    lost = sum(turn[name]["lost"] for turn in turns for name in services)
    valid = all(_were_alone([turn[name] for turn in turns]) for name in services)
    return {"turns": turns, "ratio": to_one("two"), "of_halves": to_one("halves"), "lost": lost, "valid": valid}


def cores(bench: Bench) -> dict[str, Any]:
    """Everything on one CPU, and on all: capacity, and latency at a share of it (`capacity.py` is tested by it)."""
    found, workload = {}, bench.workload or traffic.USUAL
    every, calls = os.sched_getaffinity(0), bench.scale.small // 2
    for count in sorted({1, len(every)}):
        os.sched_setaffinity(0, sorted(every)[:count])  # the service and the clients inherit it
        try:
            with cluster() as service:
                bench.closed(service, workload, BATCH * 4, Transport.STREAM, 4)
                full = bench.closed(service, workload, calls, Transport.STREAM, 4)
                rate = bench.rate_share * full.per_s
                draw, due, times = random.Random(count), 0.0, []  # noqa: S311
                for _ in range(calls):
                    due += draw.expovariate(rate)
                    times.append(due)
                bench.begin(f"{count} CPUs, open loop at {rate:.0f}/s", len(times))
                plan = Plan(tuple(service.urls), Transport.SINGLE, 1, due_s=times)
                shots = traffic.shots(workload, len(times))
                part = crowd.send(service, [(plan, shots)], bench.told)
                after = bench.closed(service, workload, calls, Transport.STREAM, 4)
        finally:
            os.sched_setaffinity(0, every)
        found[str(count)] = {
            "full": full.summary(),
            "rate_per_s": rate,
            "part": part.summary(),
            "after": after.summary(),
            "valid": is_alike(full.per_s, after.per_s),
        }
    return {"workload": workload, "in_flight": BATCH * 4, "cpus": found}


Section = Callable[[Bench], dict[str, Any]]
SECTIONS: dict[str, Section] = {
    each.__name__: each
    for each in (throughput, latency, fronts, step, burst, connections, cores, workers, slots, mixes, profile)
}
"""All but `replay`, which needs a log."""
