"""One simulated inference engine, for `scheduler_sim.py`.

Continuous batching as vLLM does it: first come, first served by turn; a waiting turn is admitted when its tokens fit,
whatever is needed is taken from the prefix cache, least recently used first and from the end of a prefix; when the next
tokens of the batch do not fit, the newest turn is preempted and waits in front (`Evict.NEWEST`), or, as the paper says
of its baseline, half of the batch is thrown out and computed again when the rest has finished (`Evict.HALF`). Prefill
stops decoding for as long as it takes.

Its speed is a roofline of a 14B model on one MI300X. A decoding step reads the weights (or multiplies by them, if
that takes longer) and then the KV cache of the batch: max(weights / bandwidth, batch * flop / compute) + tokens * kv /
bandwidth. From data sheets: 5.3 TB/s and 1307 TFLOP/s (MI300X), 14.8e9 parameters, 40 layers, 8 KV heads of 128
(Qwen3-14B). Assumed: 60 % of the bandwidth, 40 % of the compute. Attention's own arithmetic is left out.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict, deque
from dataclasses import dataclass
from enum import Enum
from itertools import count

from loadtest.scheduler_workload import Script


class Evict(Enum):
    NEWEST = "newest"
    HALF = "half"


@dataclass(frozen=True)
class Speed:
    """Seconds of an engine: per step for the weights, per sequence and step, per cached token and step, per prefill."""

    weights_s: float = 2 * 14.8e9 / (0.6 * 5.3e12)
    sequence_s: float = 2 * 14.8e9 / (0.4 * 1307e12)
    cached_s: float = 2 * 2 * 40 * 8 * 128 / (0.6 * 5.3e12)

    @property
    def prefill_s(self) -> float:
        return self.sequence_s

    def duration(self, steps: float, batch: int, tokens: float) -> float:
        """Seconds for that many steps of a batch that holds `tokens` at first and a token per sequence more each."""
        step = max(self.weights_s, batch * self.sequence_s) + tokens * self.cached_s
        return steps * step + self.cached_s * batch * steps * steps / 2

    def steps(self, seconds: float, batch: int, tokens: float) -> float:
        """The inverse of `duration`."""
        step = max(self.weights_s, batch * self.sequence_s) + tokens * self.cached_s
        slope = self.cached_s * batch
        return 2 * seconds / (step + math.sqrt(step * step + 2 * slope * seconds))


@dataclass(eq=False)
class Run:
    """A rollout under way."""

    id: str
    script: Script
    length: int
    """Tokens at the last event; while it decodes see `SimEngine.length`."""
    turn: int = 0
    left: float = 0.0
    """Own tokens that its turn still lacks."""
    computed: int = 0
    """Tokens that were in a KV cache before: prefilling them again is recomputation."""
    attempt: int = 0
    since: float = 0.0
    """The engine's step count when it was admitted, and its arrival there."""
    arrival: int = 0
    ticket: int = 0
    """Which admission this is."""
    told: int = 0
    """The length that the scheduler knows."""


@dataclass
class Outcome:
    """What one simulated step cost. Seconds are simulated."""

    makespan_s: float = 0.0
    idle_share: float = 0.0
    recomputed: int = 0
    generated: int = 0
    preempted: int = 0
    tail_s: float = 0.0
    """From the moment when 90 % of the rollouts were done to the end."""
    mean_batch: float = 0.0


class SimEngine:
    """One engine; time goes on by `advance`. It counts steps, not tokens: a turn ends at a known step."""

    def __init__(self, name: str, capacity: int, speed: Speed, evict: Evict, outcome: Outcome) -> None:
        self.name, self.capacity, self.speed, self.evict, self.outcome = name, capacity, speed, evict, outcome
        self.now = self.prefilled_at = self.step = self.tokens = 0.0
        self.busy_s = self.sequence_steps = 0.0
        self.told = 0
        """Of the batch: the sum of the lengths that the scheduler knows."""
        self.running: dict[Run, None] = {}
        self.waiting: deque[Run] = deque()
        self.thrown_out: list[Run] = []
        self.cache: OrderedDict[Run, int] = OrderedDict()
        self.cached = 0
        self.version = 0
        self._ends: list[tuple[float, int, Run]] = []
        self._arrivals, self._tickets = count(), count()

    def tell(self, run: Run, length: int) -> None:
        """The scheduler knows this length of a running turn from now on."""
        self.told += length - run.told
        run.told = length

    def length(self, run: Run) -> int:
        return run.length + int(self.step - run.since + 1e-6) if run in self.running else run.length

    def advance(self, now: float) -> None:
        start = max(self.now, self.prefilled_at)
        if now > start and self.running:
            steps = self.speed.steps(now - start, len(self.running), self.tokens)
            self.step += steps
            self.tokens += steps * len(self.running)
            self.sequence_steps += steps * len(self.running)
            self.busy_s += now - start
        self.now = max(self.now, now)

    def turn_arrives(self, run: Run) -> None:
        run.arrival = next(self._arrivals)
        self.waiting.append(run)

    def next_at(self, held: float) -> float | None:
        """When a turn ends or the memory is full; `held` is what must stay in the cache besides the batch."""
        while self._ends and not self._is_live(self._ends[0]):
            heapq.heappop(self._ends)
        if not self.running:
            return None
        batch = len(self.running)
        room = max(1.0, (self.capacity - held - self.tokens) / batch)
        steps = max(1e-3, min(self._ends[0][0] - self.step, room))
        return max(self.now, self.prefilled_at) + self.speed.duration(steps, batch, self.tokens)

    def ended(self) -> list[Run]:
        """Turns that are complete; their KV stays as prefix cache."""
        done = []
        while self._ends and (self._ends[0][0] <= self.step + 1e-3 or not self._is_live(self._ends[0])):
            entry = heapq.heappop(self._ends)
            if self._is_live(entry):
                run = entry[2]
                done.append(run)
                self._leave(run, round(run.length + run.left), keep=True)
                run.left = 0.0
        return done

    def make_room(self) -> None:
        """The engine's own preemption, when the next step of the batch does not fit."""
        while len(self.running) > 1 and self.tokens + len(self.running) > self.capacity:
            if self.evict is Evict.NEWEST:
                newest = max(self.running, key=lambda run: run.arrival)
                self.outcome.preempted += 1
                self.drop(newest, keep=True)
                self.waiting.appendleft(newest)
            else:
                newer = sorted(self.running, key=lambda run: -run.arrival)
                for run in newer[: len(newer) // 2]:
                    self.outcome.preempted += 1
                    self.drop(run, keep=False)
                    self.thrown_out.append(run)

    def drop(self, run: Run, keep: bool) -> None:
        """Stop a turn where it is."""
        if run in self.running:
            length = self.length(run)
            run.left -= length - run.length
            self._leave(run, length, keep)
        elif run in self.waiting:
            self.waiting.remove(run)

    def admit(self) -> None:
        if not self.running and not self.waiting and self.thrown_out:
            self.waiting.extend(self.thrown_out)
            self.thrown_out = []
        while self.waiting:
            run = self.waiting[0]
            if self.running and self.tokens + run.length + len(self.running) + 1 > self.capacity:
                break
            self.waiting.popleft()
            hit = min(self._forget(run), run.length)
            self.outcome.recomputed += max(0, min(run.length, run.computed) - hit)
            prefill = (run.length - hit) * self.speed.prefill_s
            self.prefilled_at = max(self.now, self.prefilled_at) + prefill
            self.busy_s += prefill
            run.computed, run.since = max(run.computed, run.length), self.step
            self.running[run] = None
            self.tokens += run.length
            self.told += run.told
            run.ticket = next(self._tickets)
            heapq.heappush(self._ends, (self.step + run.left, run.ticket, run))
        while self.cached and self.cached + self.tokens > self.capacity:
            oldest = next(iter(self.cache))
            lost = min(self.cache[oldest], math.ceil(self.cached + self.tokens - self.capacity))
            self.cache[oldest] -= lost
            self.cached -= lost
            if not self.cache[oldest]:
                del self.cache[oldest]

    def _is_live(self, entry: tuple[float, int, Run]) -> bool:
        return entry[2] in self.running and entry[2].ticket == entry[1]

    def _leave(self, run: Run, length: int, keep: bool) -> None:
        self.tokens -= run.length + self.step - run.since
        self.told -= run.told
        del self.running[run]
        if not self.running:
            self.tokens = 0.0
        run.length, run.computed = length, max(run.computed, length)
        self._forget(run)
        if keep:
            self.cache[run] = length
            self.cached += length

    def _forget(self, run: Run) -> int:
        size = self.cache.pop(run, 0)
        self.cached -= size
        return size

    def forget(self, run: Run) -> None:
        """The rollout is over: nobody will ask for its prefix again."""
        self._forget(run)
