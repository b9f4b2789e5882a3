"""Several engines as one: the asyncio shell of `scheduler.py`. A `Fleet` is an `inference.Engine`.

A rollout comes in with its first `generate`, waits until the scheduler gives it a place, keeps that place (and its KV
cache) over all its turns and tool calls, and goes with `release`. `generate` returns when the tool calls of the turn
may leave. A turn is generated in pieces, each announced to the scheduler before, so that an engine is never asked to
hold more than it can, and a preempted rollout loses at most one piece.

Engines join and leave at any time. When one leaves, or dies (`EngineLost`), its rollouts go on elsewhere from the
tokens they have. Each turn is returned exactly once: what a lost attempt still brings is thrown away, and a rollout
draws the same tokens wherever it goes on, because a draw depends on its seed and position only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from sandbox_service.trainer.inference import Engine, EngineLost, Generation, Sampling, Stop
from sandbox_service.trainer.need import Need
from sandbox_service.trainer.scheduler import Abort, Generate, Policy, Scheduler

PIECE = 16
"""Tokens between two words with a KV-aware scheduler; the others are not asked within a turn."""


@dataclass(eq=False)
class _Seat:
    """What the shell knows of a rollout."""

    most: int
    """Tokens it may come to."""
    held: int = 0
    """Tokens that its engine has in its cache, or had when the rollout lost its place."""
    preempted: int = 0
    attempt: int = 0
    engine: Engine | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """It has a place; or nobody will ever give it one."""
    may_call: asyncio.Event = field(default_factory=asyncio.Event)


class Fleet:
    """`limit` is the longest response in tokens, all turns and tool results together, as in `Scheduler`."""

    def __init__(self, policy: Policy, limit: int, engines: Sequence[Engine] = (), need: Need | None = None) -> None:
        self.name = "fleet"
        self._scheduler = Scheduler(policy, limit, need)
        self._limit, self._piece = limit, PIECE if policy.kv_aware else limit
        self._engines: dict[str, Engine] = {}
        self._seats: dict[str, _Seat] = {}
        self._recomputed = 0
        for engine in engines:
            self.join(engine)

    @property
    def capacity_tokens(self) -> int:
        return sum(engine.capacity_tokens for engine in self._engines.values())

    @property
    def used_tokens(self) -> int:
        return sum(engine.used_tokens for engine in self._engines.values())

    @property
    def preemptions(self) -> int:
        """By the scheduler, and by the engines that are here."""
        return self._scheduler.preemptions + sum(engine.preemptions for engine in self._engines.values())

    @property
    def recomputed_tokens(self) -> int:
        """Because rollouts lost their places, and by the engines that are here."""
        return self._recomputed + sum(engine.recomputed_tokens for engine in self._engines.values())

    def join(self, engine: Engine) -> None:
        """ValueError: it could not hold the longest rollout, or one of its name is here."""
        self._scheduler.engine_joined(engine.name, engine.capacity_tokens)
        self._engines[engine.name] = engine
        self._act()

    def leave(self, engine: Engine) -> None:
        """It gets no more work; its rollouts go on elsewhere. An engine that is not here is ignored."""
        if self._engines.get(engine.name) is not engine:
            return
        self._act()  # what was decided before it left, and not done yet, names it
        del self._engines[engine.name]
        self._scheduler.engine_left(engine.name)
        self._act()
        if not self._engines:
            for seat in self._seats.values():
                seat.wake.set()

    async def generate(self, rollout: str, tokens: Sequence[int], max_new: int, sampling: Sampling) -> Generation:
        """See `inference.Engine`. EngineLost: no engine is left. After any exception the rollout is released."""
        if not self._engines:
            raise EngineLost("no engine is left")
        seat = self._seats.get(rollout)
        most = seat.most if seat else len(tokens) + self._limit
        if not tokens or max_new < 1 or len(tokens) + max_new > most:
            raise ValueError(f"{len(tokens)} + {max_new} tokens: rollout {rollout} may have {most}")
        if seat:
            seat.wake.clear()
            self._scheduler.tool_done(rollout, len(tokens))
        else:
            self._scheduler.submit(rollout, len(tokens))
            seat = self._seats[rollout] = _Seat(most)
        try:
            asyncio.get_running_loop().call_soon(self._act)  # who comes at the same time is placed together
            return await self._turn(rollout, seat, list(tokens), len(tokens) + max_new, sampling)
        except BaseException:
            if self._seats.get(rollout) is seat:
                self.release(rollout)
            raise

    def release(self, rollout: str) -> None:
        """See `inference.Engine`."""
        seat = self._seats.pop(rollout, None)
        if seat is None:
            return
        self._scheduler.dropped(rollout)
        if seat.engine:
            seat.engine.release(rollout)
        seat.wake.set()
        seat.may_call.set()
        self._act()

    async def _turn(self, rollout: str, seat: _Seat, known: list[int], end: int, sampling: Sampling) -> Generation:
        start, logprobs = len(known), list[float]()
        while True:
            await seat.wake.wait()
            self._check(rollout, seat)
            attempt, ahead = seat.attempt, min(self._piece, end - len(known))
            granted = self._scheduler.grew(rollout, len(known), attempt, ahead)
            self._act()
            granted = granted and seat.attempt == attempt  # it was not moved just now
            part = await self._part(rollout, seat, known, ahead, sampling) if granted else None
            if part is None or seat.attempt != attempt or not seat.wake.is_set():
                continue
            known += part.tokens
            logprobs += part.logprobs
            seat.held = len(known)
            if part.stop is Stop.END or len(known) == end:
                break
        seat.may_call.clear()
        self._scheduler.turn_over(rollout, len(known), attempt)
        self._act()
        await seat.may_call.wait()
        self._check(rollout, seat)
        return Generation(known[start:], logprobs, part.stop, seat.preempted + part.preempted)

    async def _part(
        self, rollout: str, seat: _Seat, known: list[int], max_new: int, sampling: Sampling
    ) -> Generation | None:
        """None: the place was lost meanwhile."""
        engine, task = seat.engine, asyncio.current_task()
        assert engine
        assert task
        try:
            return await engine.generate(rollout, known, max_new, sampling)
        except EngineLost:
            self.leave(engine)
        except asyncio.CancelledError:  # by `_act`, which released it; or by whoever gave it up
            if task.cancelling():
                raise
        return None

    def _check(self, rollout: str, seat: _Seat) -> None:
        if self._seats.get(rollout) is not seat:
            raise asyncio.CancelledError
        if not self._engines:
            raise EngineLost("no engine is left")

    def _act(self) -> None:
        """Do what the scheduler says."""
        for action in self._scheduler.next():
            seat = self._seats[action.rollout]
            if isinstance(action, Generate):
                engine = self._engines[action.engine]
                if seat.engine is not engine:
                    self._vacate(action.rollout, seat)
                    self._recomputed += seat.held
                seat.engine, seat.attempt = engine, action.attempt
                seat.wake.set()
            elif isinstance(action, Abort):
                seat.preempted += 1
                seat.wake.clear()
                self._vacate(action.rollout, seat)
            else:
                seat.may_call.set()

    def _vacate(self, rollout: str, seat: _Seat) -> None:
        if seat.engine:
            seat.engine.release(rollout)
        seat.engine = None
