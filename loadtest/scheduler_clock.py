"""Real engines on a computed clock: what their passes would have taken on the paper's card.

A pass of a local engine costs nearly the same with 30 rollouts as with 40, and its rows are padded in memory, so
processor time says little about the paper's engines. Here local engines do all that they do (real caches, preemption,
tokens computed again) in an event loop whose time is computed: a pass takes what the roofline of `scheduler_engine.py`
says of its rollouts, the tokens they hold and those it computes first; a tool call takes its latency. Nothing depends
on how fast or busy the machine is.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from loadtest.scheduler_engine import Speed
from sandbox_service.trainer import model
from sandbox_service.trainer.engine import Eviction, LocalEngine, _Row


class ComputedLoop(asyncio.SelectorEventLoop):
    """When nothing is left to do at this time, it is the time of what comes next."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Leap(self))

    def time(self) -> float:
        return self.now


class _Leap(selectors.SelectSelector):
    def __init__(self, loop: ComputedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("everybody waits, and for nothing")
            self._loop.now += timeout
        return events


class PricedEngine(LocalEngine):
    """A local engine in a `ComputedLoop`. A token of it stands for `scale` of the paper's."""

    def __init__(self, policy: model.Policy, capacity: int, name: str, evict: Eviction, scale: float) -> None:
        super().__init__(policy, capacity, name=name, evict=evict)
        self.scale, self.busy_s = scale, 0.0
        self._speed = Speed()
        self._thread.shutdown()
        self._thread = _Here(self._price)  # type: ignore[assignment]

    def _price(self, active: list[_Row]) -> float:
        held = self.scale * sum(len(row.known) for row in active)
        fresh = self.scale * sum(len(row.known) - 1 - row.cached for row in active)
        took_s = self._speed.duration(self.scale, len(active), held) + fresh * self._speed.prefill_s
        self.busy_s += took_s
        return took_s


class ServerEngine(PricedEngine):
    """As inference servers do by default: a turn is a request of its own, first come, first served, and what waits gets
    the cache of rollouts whose tools run. (A local engine goes by the age of rollouts, and lets them keep it.)"""

    async def generate(self, rollout: str, *request: Any) -> Any:
        if rollout in self._rows:
            self._rows[rollout].age, self._ages = self._ages, self._ages + 1
        return await super().generate(rollout, *request)

    def _admit(self) -> None:
        waiting = [row for row in self._rows.values() if row.request and row not in self._placed]
        for row in sorted(waiting, key=lambda row: row.age):
            active = sum(other.request is not None for other in self._placed)
            while not self._fits(row, active) and (parked := [other for other in self._placed if not other.request]):
                self._preempt(min(parked, key=lambda other: other.age))
            super()._admit()
            if row not in self._placed:
                return


class _Here(Executor):
    """Runs a pass at once, and says so when the time that it takes is over."""

    def __init__(self, price: Callable[[list[_Row]], float]) -> None:
        self._price = price

    def submit(self, run: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        took_s = self._price(*args)
        try:
            made = run(*args)
        except Exception as error:
            future.set_exception(error)
        else:
            asyncio.get_running_loop().call_later(took_s, future.set_result, made)
        return future
