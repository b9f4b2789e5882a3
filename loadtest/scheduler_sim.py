"""Rollouts on simulated inference engines: the real scheduler of `trainer/scheduler.py` in simulated time.

What happens next is taken from a heap: a turn ends, an engine is full, a tool answers. The engines and their speed are
`scheduler_engine.py`'s, the rollouts `scheduler_workload.py`'s; `scheduler_grid.py` runs it over many points.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from loadtest.scheduler_engine import Evict, Outcome, Run, SimEngine, Speed
from loadtest.scheduler_workload import LIMIT, Script
from sandbox_service.trainer.need import Need
from sandbox_service.trainer.scheduler import Abort, Generate, Policy, RunTool, Scheduler


@dataclass
class Simulation:
    """One step of rollouts under one policy."""

    workload: list[Script]
    policy: Policy
    engines: int
    capacity: int
    need: Need | None = None
    evict: Evict = Evict.NEWEST
    speed: Speed = field(default_factory=Speed)
    tick_s: float = 2.0
    """How often a KV-aware scheduler hears how long the rollouts have become, besides at the end of turns."""
    progress: Callable[[int], None] | None = None

    def run(self) -> Outcome:
        self.outcome = Outcome()
        self.scheduler = Scheduler(self.policy, LIMIT, self.need)
        self.fleet = [
            SimEngine(f"engine-{n}", self.capacity, self.speed, self.evict, self.outcome) for n in range(self.engines)
        ]
        self.by_name = {engine.name: engine for engine in self.fleet}
        self.events: list[tuple[float, int, SimEngine | Run | None, int]] = []
        self.sequence = count()
        self.home: dict[Run, SimEngine] = {}
        self.runs = {str(n): Run(str(n), script, script.prompt) for n, script in enumerate(self.workload)}
        for engine in self.fleet:
            self.scheduler.engine_joined(engine.name, self.capacity)
        for run in self.runs.values():
            run.left, run.told = run.script.turns[0].own, run.length
            self.scheduler.submit(run.id, run.length)
        self._follow(0.0)
        if self.policy.kv_aware:
            self._at(self.tick_s, None, 0)
        done_at: list[float] = []
        while self.events:
            now, _, subject, version = heapq.heappop(self.events)
            if isinstance(subject, SimEngine):
                if version == subject.version:
                    self._engine_event(now, subject, done_at)
            elif isinstance(subject, Run):
                subject.told = subject.length
                self.scheduler.tool_done(subject.id, subject.length)
                self._follow(now)
            elif len(done_at) < len(self.runs):
                self._tick(now)
        return self._judge(done_at)

    def _engine_event(self, now: float, engine: SimEngine, done_at: list[float]) -> None:
        engine.advance(now)
        for run in engine.ended():
            run.turn += 1
            if run.turn == len(run.script.turns):
                assert self.scheduler.finished(run.id, run.length, run.attempt)
                engine.forget(run)
                self.home.pop(run, None)
                done_at.append(now)
                if self.progress:
                    self.progress(len(done_at))
            else:
                run.told = run.length
                assert self.scheduler.turn_over(run.id, run.length, run.attempt)
        if self.policy.kv_aware:
            if self.scheduler.used(engine.name) + self._unreported(engine) > self.capacity:
                self._report(engine)
        else:
            engine.make_room()
        self._follow(now, engine)

    def _unreported(self, engine: SimEngine) -> float:
        """By how much the batch, with its next step, is longer than the scheduler knows."""
        return engine.tokens + len(engine.running) - engine.told

    def _report(self, engine: SimEngine) -> None:
        """Tell the scheduler what each turn holds after its next step; stop when it has taken enough off the engine."""
        for run in list(engine.running):
            length = min(engine.length(run) + 1, run.length + int(run.left))
            if self.scheduler.grew(run.id, length, run.attempt):
                engine.tell(run, length)

    def _tick(self, now: float) -> None:
        if self.scheduler.waiting() or self.policy is Policy.EXPECTED:
            for engine in self.fleet:
                engine.advance(now)
                self._report(engine)
            self._follow(now, *self.fleet)
        self._at(now + self.tick_s, None, 0)

    def _follow(self, now: float, *touched: SimEngine) -> None:
        """Do what the scheduler says, then let the engines that are concerned go on."""
        concerned = dict.fromkeys(touched)
        for action in self.scheduler.next():
            run = self.runs[action.rollout]
            if isinstance(action, Generate):
                engine = self.by_name[action.engine]
                engine.advance(now)
                run.attempt = action.attempt
                engine.turn_arrives(run)
                concerned[engine] = None
            elif isinstance(action, Abort):
                engine = self.by_name[action.engine]
                engine.advance(now)
                engine.drop(run, keep=True)
                self.outcome.preempted += 1
                concerned[engine] = None
            else:
                assert isinstance(action, RunTool)
                turn = run.script.turns[run.turn]
                run.length += turn.tool
                run.left = turn.own
                self._at(now + turn.tool_s, run, 0)
        for engine in concerned:
            engine.admit()
            engine.version += 1
            held = 0.0
            if self.policy.kv_aware:
                held = self.scheduler.used(engine.name) - engine.told
            due = engine.next_at(held)
            if due is not None:
                self._at(due, engine, engine.version)

    def _at(self, when: float, subject: SimEngine | Run | None, version: int) -> None:
        heapq.heappush(self.events, (when, next(self.sequence), subject, version))

    def _judge(self, done_at: list[float]) -> Outcome:
        assert len(done_at) == len(self.runs), f"{len(self.runs) - len(done_at)} rollouts never ended"
        outcome = self.outcome
        outcome.makespan_s = done_at[-1]
        outcome.tail_s = done_at[-1] - done_at[int(0.9 * len(done_at))]
        busy = sum(engine.busy_s for engine in self.fleet)
        outcome.idle_share = 1 - busy / (self.engines * outcome.makespan_s)
        outcome.generated = sum(turn.own for script in self.workload for turn in script.turns)
        outcome.mean_batch = sum(e.sequence_steps for e in self.fleet) / sum(e.step for e in self.fleet)
        return outcome
