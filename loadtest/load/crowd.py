"""Many client processes at once, and the account of what they and the service used meanwhile.

The processes are forked: this one must have no thread, or a lock could be copied that nobody will release.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from loadtest.load import cost
from loadtest.load.cluster import Cluster
from loadtest.load.drive import PHASES, Plan, Record, drive
from loadtest.load.pace import Pace
from loadtest.load.traffic import Shot
from sandbox_service import garbage

HEAD_START_S = 0.3
_TELL_S = 0.2
_fork = multiprocessing.get_context("fork")


@dataclass
class Outcome:
    """The records of all client processes together, and what they cost."""

    start: float
    calls: int
    records: list[Record]
    account: cost.Account
    work_ms: float = 0.0
    """What a fixed piece of work took meanwhile (`pace.py`)."""

    @property
    def done(self) -> list[float]:
        return sorted(done for record in self.records for done in record.done)

    @property
    def answered(self) -> int:
        return sum(len(record.done) for record in self.records)

    @property
    def took_s(self) -> float:
        return max(done[-1] - self.start, 1e-9) if (done := self.done) else float("nan")

    @property
    def per_s(self) -> float:
        return self.answered / self.took_s

    @property
    def faults(self) -> list[str]:
        return [fault for record in self.records for fault in record.faults]

    @property
    def latencies_s(self) -> list[float]:
        return sorted(done - due for record in self.records for done, due in zip(record.done, record.due, strict=True))

    def summary(self) -> dict[str, Any]:
        """What a report needs of it, as JSON."""
        ids = Counter(each for record in self.records for each in record.ids)
        duplicated = sum(record.duplicated for record in self.records) + sum(n - 1 for n in ids.values())
        calls, latencies = max(1, self.answered), self.latencies_s
        faults = self.faults
        return {
            "calls": self.calls,
            "answered": self.answered,
            "lost": self.calls - self.answered,
            "duplicated": duplicated,
            "second_attempts": sum(record.second_attempts for record in self.records),
            "statuses": dict(sum((record.statuses for record in self.records), Counter())),
            "wrong": len(faults),
            "faults": faults[:10],
            "seconds": self.took_s,
            "per_s": self.per_s,
            "latency_ms": summary_ms(latencies),
            "phases_ms": self._phases(),
            "cpu_ms_per_call": {part: 1000 * used / calls for part, used in self.account.cpu_s.items()},
            "service_cpu_ms_per_call": 1000 * self.account.service_s / calls,
            "faults_per_call": {part: used / calls for part, used in self.account.faults.items()},
            "rss_mb": self.account.rss_mb,
            "foreign_share": self.account.foreign_share,
            "work_ms": self.work_ms,
            "valid": self.account.is_valid,
            "generator_share": self.account.cpu_s["generator"] / max(self.account.own_s, 1e-9),
        }

    def _phases(self) -> dict[str, dict[str, float]]:
        columns = zip(*(phases for record in self.records for phases in record.phases), strict=True)
        shown = {name: summary_ms(sorted(column)) for name, column in zip(PHASES, columns, strict=False)}
        # From the worker's last look to the client's: queue, gateway and network on the way back, and our own reading.
        replied = sorted(
            done - sent - phases[-1]
            for record in self.records
            for done, sent, phases in zip(record.done, record.sent, record.phases, strict=True)
        )
        return {**shown, "replied": summary_ms(replied)} if replied else shown

    def series(self, step_s: float = 1.0) -> dict[str, list[float]]:
        """Percentiles of latency, throughput and calls in flight, over time."""
        end = int(self.took_s / step_s) + 1
        latencies: list[list[float]] = [[] for _ in range(end)]
        changes = [0] * (end + 1)
        for record in self.records:
            for due, done in zip(record.due, record.done, strict=True):
                latencies[min(end - 1, int((done - self.start) / step_s))].append(done - due)
                changes[min(end, max(0, int((due - self.start) / step_s)))] += 1
                changes[min(end, int((done - self.start) / step_s) + 1)] -= 1
        in_flight, flights = 0, []
        for change in changes[:end]:
            in_flight += change
            flights.append(float(in_flight))
        return {
            "at_s": [number * step_s for number in range(end)],
            "per_s": [len(each) / step_s for each in latencies],
            "p50_ms": [1000 * percentile(sorted(each), 0.5) for each in latencies],
            "p99_ms": [1000 * percentile(sorted(each), 0.99) for each in latencies],
            "in_flight": flights,
        }


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def summary_ms(ordered: Sequence[float]) -> dict[str, float]:
    if not ordered:
        return {}
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
    cuts = {name: 1000 * percentile(ordered, share) for name, share in shares.items()}
    return {"mean": 1000 * sum(ordered) / len(ordered), **cuts, "max": 1000 * ordered[-1]}


def send(
    service: Cluster,
    plans: Sequence[tuple[Plan, Sequence[Shot]]],
    told: Callable[[int], None],
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> Outcome:
    """Carry out each plan in a process of its own. `told` gets how many calls were answered, since it was last told.

    `meanwhile` is called a few times a second, in this process, until all have ended.
    """
    assert threading.active_count() == 1
    before = cost.take(service, time.monotonic())
    start = time.monotonic() + HEAD_START_S
    pipes: dict[Connection, int] = {}
    processes = []
    for number, (plan, shots) in enumerate(plans):
        ours, theirs = _fork.Pipe(duplex=False)
        process = _fork.Process(target=_child, args=(plan, shots, start, theirs))
        process.start()
        theirs.close()
        pipes[ours] = number
        processes.append(process)
    records: dict[int, Record] = {}
    pace = Pace()
    while pipes:
        for pipe in wait(list(pipes), timeout=_TELL_S):
            assert isinstance(pipe, Connection)
            try:
                message = pipe.recv()
            except EOFError:
                raise RuntimeError("a client process died") from None
            if isinstance(message, int):
                told(message)
            else:
                records[pipes.pop(pipe)] = message
        meanwhile()
        pace.sample()
        service.check()
    for process in processes:
        process.join()
    after = cost.take(service, time.monotonic())
    calls = sum(len(shots) for _, shots in plans)
    return Outcome(start, calls, [records[number] for number in range(len(plans))], after.since(before), pace.work_ms)


def _child(plan: Plan, shots: Sequence[Shot], start: float, pipe: Connection) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    garbage.settle()
    told_at, count = 0.0, 0

    def told(more: int) -> None:
        nonlocal told_at, count
        count += more
        if (now := time.monotonic()) > told_at + _TELL_S:
            pipe.send(count)
            told_at, count = now, 0

    record = drive(plan, shots, start, told)
    pipe.send(count)
    pipe.send(record)
    pipe.close()
    os._exit(0)
