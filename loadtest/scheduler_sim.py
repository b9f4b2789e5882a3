"""Rollouts on simulated inference engines: the real scheduler of `trainer/scheduler.py` in simulated time.

    python -m loadtest.scheduler_sim [--engines 4] [--spread 0.6] [--pressure 1 2 4 8] [--seeds 0] [--out FILE]

`--out` appends a line of JSON per simulation; `loadtest/scheduler_report.py` makes the table and the plot of it.

256 rollouts per engine, as in the paper (16,384 on 64 GPUs). Pressure: what all rollouts hold at full length, in
multiples of the KV cache. Every policy gets the same rollouts (same seed). Three rows are not policies:
`expected_cold` is `expected` in the first step of a run, without the lengths of a step before (as many rollouts, other
seed); `oracle_order` is `expected` with the longest rollout first, which nobody can know; `bound` no schedule can beat:
the work of an engine whose cache is always full, or the longest rollout alone.

**Engine.** Continuous batching as vLLM does it: first come, first served by turn; a waiting turn is admitted when its
tokens fit, whatever is needed is taken from the prefix cache, least recently used first and from the end of a prefix;
when the next tokens of the batch do not fit, the newest turn is preempted and waits in front (`Evict.NEWEST`), or, as
the paper says of its baseline, half of the batch is thrown out and computed again when the rest has finished
(`Evict.HALF`). Prefill stops decoding for as long as it takes.

**Speed.** A roofline of a 14B model on one MI300X. A decoding step reads the weights (or multiplies by them, whichever
is longer) and then the KV cache of the batch: max(weights / bandwidth, batch * flop / compute) + tokens * kv /
bandwidth. From data sheets: 5.3 TB/s and 1307 TFLOP/s (MI300X), 14.8e9 parameters, 40 layers, 8 KV heads of 128
(Qwen3-14B). Assumed: 60 % of the bandwidth, 40 % of the compute. Attention's own arithmetic is left out.

**Workload.** What the paper states: responses up to 12K tokens and 6K on average before they are cut, 2.75 tool calls
per rollout, at most 10 turns. Tool calls take what calls through the SDK took, measured (`tool_latency.json`, by
`loadtest/tool_latency.py`). Assumed: log-normal lengths, independent of each other; Poisson calls; turns of uniform
shares; prompts of 300 to 600 tokens with nothing in common.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import Enum
from itertools import count
from pathlib import Path

from sandbox_service.trainer.need import Expected, Need
from sandbox_service.trainer.scheduler import Abort, Generate, Policy, RunTool, Scheduler

LIMIT = 12_000
MEAN_RESPONSE = 6_000
MEAN_CALLS, MOST_TURNS = 2.75, 10
TOOL_LATENCY_S: list[float] = json.loads(Path(__file__).with_name("tool_latency.json").read_text())["quantiles_s"]
"""Equally likely."""


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


@dataclass(frozen=True)
class Turn:
    own: int
    """Tokens that the model writes."""
    tool: int
    """Tokens of the tool result before them (none in the first turn)."""
    tool_s: float
    """Latency of that tool call."""


@dataclass(frozen=True)
class Script:
    """All that chance decides about one rollout, so that every policy meets the same rollouts."""

    prompt: int
    turns: tuple[Turn, ...]

    @property
    def final(self) -> int:
        return self.prompt + sum(turn.own + turn.tool for turn in self.turns)


def scripts(rollouts: int, spread: float, seed: int) -> list[Script]:
    """That many rollouts; `spread` is the sigma of the logarithm of the response length."""
    chance = random.Random(f"{seed} {spread}")  # noqa: S311
    return [_script(chance, spread) for _ in range(rollouts)]


def _script(chance: random.Random, spread: float) -> Script:
    mu = math.log(MEAN_RESPONSE) - spread * spread / 2
    response = max(64, min(LIMIT, round(chance.lognormvariate(mu, spread))))
    calls, level = 0, chance.random()
    term = share = math.exp(-MEAN_CALLS)
    while share < level and calls < MOST_TURNS - 1:
        calls += 1
        term *= MEAN_CALLS / calls
        share += term
    cuts = sorted(chance.sample(range(1, response), calls))
    turns = []
    for position, (start, end) in enumerate(zip([0, *cuts], [*cuts, response], strict=True)):
        tool = min((end - start) // 2, chance.randint(20, 200)) if position else 0
        turns.append(Turn(max(1, end - start - tool), tool, chance.choice(TOOL_LATENCY_S)))
    return Script(chance.randint(300, 600), tuple(turns))


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
        self.running: dict[Run, None] = {}
        self.waiting: deque[Run] = deque()
        self.thrown_out: list[Run] = []
        self.cache: OrderedDict[Run, int] = OrderedDict()
        self.cached = 0
        self.version = 0
        self._ends: list[tuple[float, int, Run]] = []
        self._arrivals, self._tickets = count(), count()

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
            newest = sorted(self.running, key=lambda run: -run.arrival)
            if self.evict is Evict.NEWEST:
                self.outcome.preempted += 1
                self.drop(newest[0], keep=True)
                self.waiting.appendleft(newest[0])
            else:
                for run in newest[: len(newest) // 2]:
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
        return engine.tokens + len(engine.running) - sum(run.told for run in engine.running)

    def _report(self, engine: SimEngine) -> None:
        """Tell the scheduler what each turn holds after its next step; stop when it has taken enough off the engine."""
        for run in list(engine.running):
            length = min(engine.length(run) + 1, run.length + int(run.left))
            if self.scheduler.grew(run.id, length, run.attempt):
                run.told = length

    def _tick(self, now: float) -> None:
        if self.scheduler.waiting():
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
                held = self.scheduler.used(engine.name) - sum(run.told for run in engine.running)
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


ROLLOUTS_PER_ENGINE = 256


def simulate(name: str, engines: int, spread: float, pressure: float, seed: int) -> Outcome:
    """One row at one point; the paper's baseline throws out half of a batch, the others the newest."""
    workload = scripts(engines * ROLLOUTS_PER_ENGINE, spread, seed)
    capacity = int(sum(script.final for script in workload) / engines / pressure)
    if name == BOUND:
        return Outcome(makespan_s=bound(workload, engines, capacity))
    policy = Policy.EXPECTED if name in (COLD, ORACLE) else Policy(name)
    evict = Evict.HALF if policy is Policy.STATIC_BARRIER else Evict.NEWEST
    need = None
    if policy is Policy.EXPECTED:
        need = Expected(LIMIT)
        if name != COLD:
            earlier = scripts(engines * ROLLOUTS_PER_ENGINE, spread, seed + 1000)
            need.learn(script.final - script.prompt for script in earlier)
    if name == ORACLE:
        workload.sort(key=lambda script: -script.final)
    return Simulation(workload, policy, engines, capacity, need, evict).run()


def bound(workload: list[Script], engines: int, capacity: int, speed: Speed | None = None) -> float:
    """Seconds that no schedule stays below: each token that a rollout holds takes one of `capacity` places for each of
    its decoding steps, and the longest rollout takes its time even alone.
    """
    speed = speed or Speed()
    own = fresh = occupied = 0.0
    longest = 0.0
    for script in workload:
        length, alone = float(script.prompt), 0.0
        for turn in script.turns:
            length += turn.tool
            alone += speed.duration(turn.own, 1, length) + (turn.tool_s if turn.tool else 0.0)
            occupied += turn.own * (length + turn.own / 2)
            length += turn.own
            own += turn.own
        fresh += script.prompt + sum(turn.tool for turn in script.turns)
        longest = max(longest, alone)
    work = max(occupied / capacity * speed.weights_s, own * speed.sequence_s)
    return max(longest, (work + occupied * speed.cached_s + fresh * speed.prefill_s) / engines)


BOUND, COLD, ORACLE = "bound", "expected_cold", "oracle_order"
ROWS = [*(policy.value for policy in Policy), COLD, ORACLE, BOUND]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[4])
    parser.add_argument("--spread", type=float, nargs="+", default=[0.6])
    parser.add_argument("--pressure", type=float, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--out", type=Path, help="append the results to this file, as JSON lines")
    options = parser.parse_args()
    print("engines spread pressure seed row              makespan_s tail_s idle recomputed/generated preempted batch")
    points = itertools.product(options.engines, options.spread, options.pressure, options.seeds, options.rows)
    for engines, spread, pressure, seed, name in points:
        o = simulate(name, engines, spread, pressure, seed)
        print(
            f"{engines:7} {spread:6} {pressure:8} {seed:4} {name:16} {o.makespan_s:10.1f} {o.tail_s:6.1f} "
            f"{o.idle_share:4.2f} {o.recomputed / max(1, o.generated):20.3f} {o.preempted:9} {o.mean_batch:5.0f}",
            flush=True,
        )
        if options.out:
            point = {"engines": engines, "spread": spread, "pressure": pressure, "seed": seed, "row": name}
            with options.out.open("a") as out:
                out.write(json.dumps(point | asdict(o)) + "\n")


if __name__ == "__main__":
    main()
