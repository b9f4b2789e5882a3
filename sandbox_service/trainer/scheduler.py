"""Which rollout runs on which engine, and when: the load-balanced rollout scheduler (paper section 3.2) and baselines.

A pure state machine: it is told what happened and says what to do; it has no clock, no chance and no I/O. `fleet.py`
is its asyncio shell; `loadtest/scheduler_sim.py` drives it in simulated time.

Invariants, each a property test in `tests/trainer/test_scheduler.py`; the first three hold for the KV-aware policies:
1. The rollouts on an engine never hold more tokens than its capacity: whoever would pass it preempts, the youngest
   first, and is preempted itself if it is the youngest.
2. A waiting rollout is never overtaken by one submitted later, and the oldest on an engine is never preempted. So a
   waiting rollout runs after at most as many rounds (rollouts that finish) as there were older unfinished ones and
   younger ones already placed.
3. A rollout keeps its engine, and with it its KV cache, from its first turn to its last, unless it is preempted, the
   engine is gone, or nobody waits and the engines are evened out; tool calls keep it too.
4. A rollout finishes exactly once, also when engines die: what comes from a lost attempt is ignored.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from enum import Enum

from sandbox_service.trainer.need import Expected, Need, WorstCase

FREE_BATCH = 50
"""With fewer rollouts in a pass, one more is nearly free: a pass takes as long as to compute so many tokens again. 160
on an MI300X, 45 with the trainer's model on a processor; and what was computed again once may have to be once more."""

WORTH_MOVING = 10
"""A rollout is moved when what engines need differs by more than so many times its length."""


class Policy(str, Enum):
    """How rollouts go to engines. The first two are KV-aware and admit no more than fits; the others are baselines."""

    EXPECTED = "expected"
    """By free KV cache; a rollout needs what rollouts are expected to need."""
    WORST_CASE = "worst_case"
    """By free KV cache; a rollout needs the longest it may become: the paper's K = floor(free / L)."""
    STATIC = "static"
    """Split evenly at the start and launched at once; tool calls as they come."""
    ROUND_ROBIN = "round_robin"
    """Launched at once; each turn goes to the next engine, as behind a plain HTTP load balancer."""
    LEAST_IN_FLIGHT = "least_in_flight"
    """Launched at once; a rollout goes to the engine with the fewest and stays, as verl's default router does."""
    STATIC_BARRIER = "static_barrier"
    """What the paper replaces (verl 0.2): static, all of an engine wait for each other every turn, tools in one lot."""

    @property
    def kv_aware(self) -> bool:
        return self in (Policy.EXPECTED, Policy.WORST_CASE)


class Phase(Enum):
    WAITING = "wants to generate"
    RUNNING = "generates"
    TURN_OVER = "wants its tool calls run"
    TOOL = "its tool calls run"


@dataclass(frozen=True)
class Generate:
    """Run the rollout's next turn (or what is missing of it) on this engine. Tell what comes of it with `attempt`."""

    rollout: str
    engine: str
    attempt: int


@dataclass(frozen=True)
class RunTool:
    """Send the rollout's tool calls now."""

    rollout: str


@dataclass(frozen=True)
class Abort:
    """The rollout has lost its place: stop its generation, if it generates, and let its KV cache go.

    What it generated so far is kept; its tool calls run on.
    """

    rollout: str
    engine: str
    attempt: int


Action = Generate | RunTool | Abort


@dataclass
class _Rollout:
    id: str
    order: int
    prompt: int
    length: int
    ahead: int = 0
    phase: Phase = Phase.WAITING
    engine: _Engine | None = None
    attempt: int = 0


@dataclass
class _Engine:
    name: str
    capacity: int
    rollouts: dict[str, _Rollout] = field(default_factory=dict)
    used: int = 0
    need: float = 0.0
    drift: float = 0.0
    """Tokens by which the rollouts grew since `need` was computed; infinite when their set changed."""
    refused: str = ""
    """The rollout that did not fit in besides `need`."""
    full: bool = False
    """It had to preempt, and nobody has finished since: admitting now would only preempt again."""
    gate: list[_Rollout] = field(default_factory=list)
    """Rollouts that wait for the others of this engine (STATIC_BARRIER)."""


class Scheduler:
    """Rollouts in, actions out.

    `limit` is the longest response in tokens (own text and tool results); an engine that could not hold one rollout
    of that length is refused. A method that names a rollout nobody submitted raises KeyError.
    """

    def __init__(self, policy: Policy, limit: int, need: Need | None = None) -> None:
        if limit < 1:
            raise ValueError(f"limit is the longest response in tokens: at least 1, not {limit}")
        self.policy, self.limit = policy, limit
        self.need: Need = need or (WorstCase(limit) if policy is Policy.WORST_CASE else Expected(limit))
        self.preemptions = 0
        self._engines: dict[str, _Engine] = {}
        self._rollouts: dict[str, _Rollout] = {}
        self._queue: list[tuple[int, str]] = []
        self._actions: list[Action] = []
        self._submitted = 0
        self._turns = 0

    # ---- what happens -------------------------------------------------------------------------------------------

    def engine_joined(self, name: str, capacity: int) -> None:
        """A new engine with room for `capacity` tokens of KV cache."""
        if name in self._engines:
            raise ValueError(f"engine {name} is here already")
        longest = self.limit + max((rollout.prompt for rollout in self._rollouts.values()), default=0)
        if capacity < longest:
            raise ValueError(f"engine {name} holds {capacity} tokens, a rollout may need {longest}: lower the limit")
        self._engines[name] = _Engine(name, capacity)

    def engine_left(self, name: str) -> None:
        """The engine is gone, with its KV cache: its rollouts are queued again where they stood."""
        engine = self._engines.pop(name)
        for rollout in list(engine.rollouts.values()):
            self._displace(rollout)

    def submit(self, id: str, prompt: int) -> None:
        """A new rollout with a prompt of that many tokens."""
        if id in self._rollouts:
            raise ValueError(f"rollout {id} was submitted already")
        smallest = min((engine.capacity for engine in self._engines.values()), default=prompt + self.limit)
        if prompt + self.limit > smallest:
            raise ValueError(f"rollout {id} may need {prompt + self.limit} tokens, an engine has {smallest}")
        rollout = _Rollout(id, self._submitted, prompt, prompt)
        self._submitted += 1
        self._rollouts[id] = rollout
        self._enqueue(rollout)

    def grew(self, id: str, length: int, attempt: int, ahead: int = 0) -> bool:
        """It holds `length` tokens, and will hold up to `ahead` more before it is heard of again.

        False: the attempt is over, this one was preempted or its engine left.
        """
        rollout = self._current(id, attempt)
        if rollout is None:
            return False
        self._resize(rollout, length, ahead)
        return rollout.phase is Phase.RUNNING

    def turn_over(self, id: str, length: int, attempt: int) -> bool:
        """It ended a turn with tool calls. False: this attempt was lost before, the turn does not count."""
        rollout = self._current(id, attempt)
        if rollout is None:
            return False
        if self.policy is Policy.STATIC_BARRIER and rollout.engine:
            rollout.phase = Phase.TURN_OVER
            rollout.engine.gate.append(rollout)
        else:
            rollout.phase = Phase.TOOL
            self._actions.append(RunTool(id))
        self._resize(rollout, length)
        return True

    def tool_done(self, id: str, length: int) -> None:
        """Its tool results are there; with them it has `length` tokens. It wants its next turn."""
        rollout = self._rollouts[id]
        if rollout.phase is not Phase.TOOL:
            raise ValueError(f"rollout {id} runs no tool: it {rollout.phase.value}")
        if self.policy is Policy.ROUND_ROBIN and rollout.engine:
            self._remove(rollout)
        self._resize(rollout, length)
        rollout.phase = Phase.WAITING
        if rollout.engine is None:
            self._enqueue(rollout)
        elif self.policy is Policy.STATIC_BARRIER:
            rollout.engine.gate.append(rollout)
        else:
            self._start(rollout, rollout.engine)

    def finished(self, id: str, length: int, attempt: int) -> bool:
        """It ended with `length` tokens. True exactly once; False: this attempt was lost before."""
        rollout = self._current(id, attempt)
        if rollout is None:
            return False
        if rollout.engine:
            rollout.engine.full = False
        self._remove(rollout)
        self._resize(rollout, length)
        self.need.finished(length - rollout.prompt)
        del self._rollouts[id]
        return True

    def dropped(self, id: str) -> None:
        """Nobody goes on with it: it ended while it had nothing to generate, or was given up. It need not be known."""
        rollout = self._rollouts.pop(id, None)
        if rollout is None:
            return
        if rollout.phase in (Phase.TURN_OVER, Phase.TOOL):
            self.need.finished(rollout.length - rollout.prompt)
        engine = rollout.engine
        self._remove(rollout)
        if engine:
            engine.full = False
            engine.gate = [other for other in engine.gate if other is not rollout]
        if (rollout.order, id) in self._queue:
            self._queue.remove((rollout.order, id))
            heapq.heapify(self._queue)
        self._actions = [action for action in self._actions if action.rollout != id]

    # ---- what to do ---------------------------------------------------------------------------------------------

    def next(self) -> list[Action]:
        """What to do now, in this order. Call it after every event; nothing waits that could go."""
        if self.policy is Policy.EXPECTED:
            self._even_out()
        if self.policy.kv_aware:
            self._admit()
        else:
            self._launch()
        actions, self._actions = self._actions, []
        return actions

    def waiting(self) -> int:
        """Rollouts that have no engine and want one."""
        return len(self._queue)

    def used(self, engine: str) -> int:
        """Tokens that the engine's rollouts hold, those whose tools run included."""
        return self._engines[engine].used

    def _even_out(self) -> None:
        """When nobody waits, move the youngest rollout of the engine that needs most to the one that needs least, if
        that evens out far more than it costs to compute it again: no engine is at work long after the others.
        """
        if self._queue or len(self._engines) < 2:
            return
        least = min(self._engines.values(), key=self._needed)
        most = max(self._engines.values(), key=self._needed)
        if len(most.rollouts) < 2 or least.full:
            return
        youngest = max(most.rollouts.values(), key=lambda r: r.order)
        if most.need - least.need > WORTH_MOVING * youngest.length:
            needed = self._with(least, youngest)
            if needed / least.capacity < min(1.0, most.need / most.capacity):  # or it could be moved to and fro
                self._displace(youngest)
                if self._queue:  # it is no tool that runs
                    self._place(least, needed)

    def _admit(self) -> None:
        """Place the oldest waiting rollouts, each on the engine with the largest free share, while they fit."""
        while self._queue and self._engines:
            rollout = self._rollouts[self._queue[0][1]]
            engine = min(self._engines.values(), key=lambda e: (e.full, self._needed(e), len(e.rollouts)))
            if engine.rollouts and (engine.full or engine.refused == rollout.id):
                return
            needed = self._with(engine, rollout)
            if engine.rollouts and not self._may_start(engine, rollout, needed):
                engine.refused = rollout.id
                return
            self._place(engine, needed)

    def _place(self, engine: _Engine, needed: float) -> None:
        """Start the oldest waiting rollout on the engine, which needs so much with it."""
        rollout = self._rollouts[heapq.heappop(self._queue)[1]]
        self._put(rollout, engine)
        engine.need, engine.drift, engine.refused = needed, 0.0, ""
        self._start(rollout, engine)

    def _may_start(self, engine: _Engine, rollout: _Rollout, needed: float) -> bool:
        """It is expected to fit; or it pays even if it is preempted as soon as the cache is full.

        What it generates until then needs no passes later, which few rollouts would share; the price is to compute all
        of it again.
        """
        room = engine.capacity - engine.used - rollout.length
        if room < 0 or needed <= engine.capacity or self.policy is not Policy.EXPECTED:
            return room >= 0 and needed <= engine.capacity
        batch = len(engine.rollouts) + 1
        return room / batch * (FREE_BATCH / batch - 1) > rollout.length

    def _needed(self, engine: _Engine) -> float:
        """The share of its cache that the engine's rollouts need."""
        if engine.drift > engine.capacity / 50:
            engine.need, engine.drift, engine.refused = self.need.tokens(_held(engine)), 0.0, ""
        return engine.need / engine.capacity

    def _with(self, engine: _Engine, rollout: _Rollout) -> float:
        return self.need.tokens([*_held(engine), (rollout.prompt, rollout.length)])

    def _launch(self) -> None:
        """The baselines: everybody goes at once; what does not fit is the engine's own affair."""
        while self._queue and self._engines:
            rollout = self._rollouts[heapq.heappop(self._queue)[1]]
            engines = list(self._engines.values())
            if self.policy is Policy.LEAST_IN_FLIGHT:
                engine = min(engines, key=lambda e: len(e.rollouts))
            else:
                engine = engines[self._turns % len(engines)]
            self._turns += 1
            self._put(rollout, engine)
            if self.policy is Policy.STATIC_BARRIER:
                engine.gate.append(rollout)
            else:
                self._start(rollout, engine)
        if self.policy is Policy.STATIC_BARRIER:
            for engine in self._engines.values():
                if engine.gate and len(engine.gate) == len(engine.rollouts):
                    self._open(engine)

    def _open(self, engine: _Engine) -> None:
        gate, engine.gate = engine.gate, []
        for rollout in gate:
            if rollout.phase is Phase.TURN_OVER:
                rollout.phase = Phase.TOOL
                self._actions.append(RunTool(rollout.id))
            else:
                self._start(rollout, engine)

    # ---- the books ----------------------------------------------------------------------------------------------

    def _current(self, id: str, attempt: int) -> _Rollout | None:
        rollout = self._rollouts.get(id)
        return rollout if rollout and rollout.phase is Phase.RUNNING and rollout.attempt == attempt else None

    def _enqueue(self, rollout: _Rollout) -> None:
        heapq.heappush(self._queue, (rollout.order, rollout.id))

    def _start(self, rollout: _Rollout, engine: _Engine) -> None:
        rollout.phase = Phase.RUNNING
        rollout.attempt += 1
        self._actions.append(Generate(rollout.id, engine.name, rollout.attempt))

    def _put(self, rollout: _Rollout, engine: _Engine) -> None:
        rollout.engine = engine
        engine.rollouts[rollout.id] = rollout
        engine.used += rollout.length
        engine.drift = float("inf")

    def _remove(self, rollout: _Rollout) -> None:
        engine, rollout.engine = rollout.engine, None
        if engine:
            del engine.rollouts[rollout.id]
            engine.used -= rollout.length + rollout.ahead
            rollout.ahead = 0
            engine.drift = float("inf")

    def _resize(self, rollout: _Rollout, length: int, ahead: int = 0) -> None:
        grown, engine = length - rollout.length, rollout.engine
        if not 0 <= length - rollout.prompt <= self.limit or grown < 0:
            raise ValueError(f"rollout {rollout.id} can't go from {rollout.length} to {length} tokens")
        self.need.grew(rollout.length - rollout.prompt, length - rollout.prompt)
        rollout.length = length
        if engine is None:
            return
        engine.used += grown + ahead - rollout.ahead
        engine.drift += grown
        rollout.ahead = ahead
        while self.policy.kv_aware and engine.used > engine.capacity:
            youngest = max(engine.rollouts.values(), key=lambda r: r.order)
            self.preemptions += 1
            self.need.preempted()
            engine.full = True
            self._displace(youngest)

    def _displace(self, rollout: _Rollout) -> None:
        """Take the rollout off its engine and put it back where it stood in the queue; a running tool runs on."""
        engine = rollout.engine
        self._remove(rollout)
        if engine and rollout in engine.gate:
            engine.gate.remove(rollout)
        if rollout.phase in (Phase.RUNNING, Phase.TOOL) and engine:
            self._actions.append(Abort(rollout.id, engine.name, rollout.attempt))
        if rollout.phase is Phase.TURN_OVER:
            rollout.phase = Phase.TOOL
            self._actions.append(RunTool(rollout.id))
        if rollout.phase in (Phase.RUNNING, Phase.WAITING):
            rollout.phase = Phase.WAITING
            self._enqueue(rollout)


def _held(engine: _Engine) -> list[tuple[int, int]]:
    return [(rollout.prompt, rollout.length) for rollout in engine.rollouts.values()]
