"""What a section of the load test gets: how much is done, the workload, and a bar to move."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress, TaskID

from loadtest.load import crowd, traffic
from loadtest.load.cluster import Cluster
from loadtest.load.drive import Plan, Transport

BATCH = 64


@dataclass(frozen=True)
class Scale:
    """How much is done: what a test can afford, or what a report is made of."""

    turns: int
    turn: int
    """Calls of print(1) in one turn; numpy and sympy get fewer. Short turns: what happens to the machine hits all."""
    small: int
    """Calls of a measurement that is not in turns."""
    latency: int
    mix: int
    rollouts: int
    """Of one RL step; 2.75 calls each."""
    burst: int
    connections: int
    cpu_bound: int
    """Calls of a program that computes, in one of a third as many turns."""
    clients: int


QUICK = Scale(1, 256, 256, 40, 128, 112, 512, 256, 8, 4)
FULL = Scale(9, 1024, 3072, 600, 512, 512 * 32, 45_000, 45_000, 100, 32)


class Bench:
    """What every section gets: the scale, a workload in place of its usual one if that is given, a bar to move."""

    def __init__(
        self,
        scale: Scale,
        progress: Progress,
        workload: str | None = None,
        log: Path | None = None,
        rate_share: float = 0.7,
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
        batch = 1 if transport.one_by_one else BATCH
        urls = service.rpc_targets if transport.over_grpc else service.urls
        plan = Plan(tuple(urls), transport, connections // processes, batch)
        return crowd.send(
            service, [(plan, traffic.shots(workload, each, seed)) for seed in range(processes)], self.told
        )
