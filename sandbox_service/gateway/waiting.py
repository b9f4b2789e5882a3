"""Who waits for which call, and how a finished Result reaches them.

One entry per awaited call, no task and no timer of its own, so that tens of thousands cost little. Results come with
the announcements of their calls' ends; large ones are fetched, many in one round trip. An announcement can be lost:
every entry is also looked at after about 1, 2, 4 ... 10 s and right after its deadline, which heals that and lets the
queue expire what never started. A Result stays the bytes that the worker wrote. Nothing waits for longer than OVERDUE_S
past its deadline.

A call that everybody here went away from is given up: at once if only they knew its id, otherwise after RETURN_S,
because a client that lost its connection comes back with the same id. The queue then cancels it, unless another
gateway waits for it or somebody holds a ticket for it.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence

from sandbox_service import logs
from sandbox_service.errors import ResultGone, SandboxError, ServiceFault, Unavailable
from sandbox_service.gateway.wait import Key, Wait
from sandbox_service.queue import Queue, Record

TICK_S = 0.1
FIRST_LOOK_S, LAST_LOOK_S = 1.0, 10.0
LATE_LOOK_S = 0.3
OVERDUE_S = 30.0
RETURN_S = 3.0
FETCH_MANY = 256


class _Entry:
    """One awaited call."""

    __slots__ = ("admitted", "deadline", "deserted", "left", "pause", "waits")

    def __init__(self) -> None:
        self.waits: list[tuple[Wait, int]] = []
        self.deserted = False
        """All who waited for it here went away; it is given up unless one returns."""
        self.left = 0.0
        """When the last of them, or of those who asked for it since, ended (loop time)."""
        self.admitted = False
        """The queue has it, so that "unknown" would be our fault."""
        self.deadline: float | None = None
        self.pause = FIRST_LOOK_S


class Waiting:
    """All waits of this process."""

    def __init__(self, queue: Queue, channel: str, *, cancel_abandoned: bool) -> None:
        self._queue = queue
        self._channel = channel
        self._cancel_abandoned = cancel_abandoned
        self._entries: dict[Key, _Entry] = {}
        self._looks: defaultdict[int, list[Key]] = defaultdict(list)
        self._deserted: deque[tuple[float, Key]] = deque()
        self._wanted: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._unwanted: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._work = asyncio.Event()
        self._log = logs.get_logger("gateway")

    def __len__(self) -> int:
        return len(self._entries)

    async def run(self) -> None:
        """Serve all waits until cancelled."""
        async with asyncio.TaskGroup() as group:
            for part in (self._listen, self._tick, self._fetch):
                group.create_task(self._keep_up(part))

    async def _keep_up(self, part: Callable[[], Awaitable[None]]) -> None:
        """The boundary of the background work: an unexpected error is logged, and the part starts again."""
        while True:
            try:
                await part()
            except Exception as error:
                self._log.error("waiting_failed", **logs.fault(error))
                await asyncio.sleep(FIRST_LOOK_S)

    def open(self, tenant: str, ids: Sequence[str], *, name: str, private: bool = False) -> Wait:
        """Start to wait. `private`: only this client can know the ids."""
        wait = Wait(name, [(tenant, call_id) for call_id in ids], self._close, private=private)
        for index, key in enumerate(wait.keys):
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry()
            entry.waits.append((wait, index))
        return wait

    def admitted(self, wait: Wait, deadlines: Sequence[float | None]) -> None:
        """The queue knows these calls: look at them from time to time, and at their deadline (loop time)."""
        now = asyncio.get_running_loop().time()
        for key, deadline in zip(wait.keys, deadlines, strict=True):
            entry = self._entries.get(key)
            if entry is None:
                continue
            if entry.deadline is None:
                entry.deadline = deadline
            if not entry.admitted:
                entry.admitted = True
                self._plan(key, entry, now)

    def _close(self, wait: Wait, abandoned: bool) -> None:
        """Stop waiting; abandoned calls that nobody else waits for here are given up."""
        if not wait.missing:
            return
        now = asyncio.get_running_loop().time()
        for index, key in enumerate(wait.keys):
            entry = self._entries.get(key)
            if entry is None or wait.results[index] is not None:
                continue
            entry.waits = [pair for pair in entry.waits if pair[0] is not wait]
            if entry.waits:
                continue
            entry.left = now
            if entry.deserted:
                continue
            if not (abandoned and self._cancel_abandoned and entry.admitted):
                del self._entries[key]
            elif wait.private:
                self._give_up(key)
            else:
                entry.deserted = True
                self._deserted.append((now + RETURN_S, key))

    def settle(self, tenant: str, call_id: str, record: Record | None) -> None:
        """Take what the queue says of a call; if it is done, everyone who waits for it gets the Result."""
        key = (tenant, call_id)
        entry = self._entries.get(key)
        if entry is None:
            return
        if record is None:
            if entry.admitted:
                self._fail(key, ServiceFault(f"the queue lost call {call_id}; submit it again"))
        elif record.state == "gone":
            self._fail(key, ResultGone(f"the result of call {call_id} has passed its time to live"))
        elif record.result is not None:
            del self._entries[key]
            for wait, index in entry.waits:
                wait.deliver(index, record.result)

    def release(self) -> None:
        """This gateway stops: everybody who still waits is told to ask again, here or elsewhere."""
        for entry in list(self._entries.values()):
            for wait, _ in entry.waits:
                wait.fail(Unavailable(f"this gateway is stopping; {wait.name} goes on, ask for it again by its id"))

    def _fail(self, key: Key, error: SandboxError) -> None:
        for wait, _ in self._entries.pop(key).waits:
            wait.fail(error)

    def _give_up(self, key: Key) -> None:
        del self._entries[key]
        tenant, call_id = key
        self._unwanted[tenant][call_id] = None
        self._work.set()

    def _want(self, key: Key) -> None:
        tenant, call_id = key
        self._wanted[tenant][call_id] = None
        self._work.set()

    async def _listen(self) -> None:
        async for announced in self._queue.finished(self._channel):
            for tenant, call_id, result in announced:
                if result is not None:
                    self.settle(tenant, call_id, Record(call_id, "done", result))
                elif (tenant, call_id) in self._entries:
                    self._want((tenant, call_id))
            if not announced:  # we are connected (again), and what was announced meanwhile is lost
                for key in self._entries:
                    self._want(key)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        done = int(loop.time() / TICK_S)
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            while done < int(now / TICK_S):
                done += 1
                for key in self._looks.pop(done, ()):
                    self._look(key, now)
            while self._deserted and self._deserted[0][0] <= now:
                self._end_return(self._deserted.popleft()[1], now)

    def _end_return(self, key: Key, now: float) -> None:
        """The time to return is over: give the call up, unless somebody is back, or was here meanwhile."""
        entry = self._entries.get(key)
        if entry is None or not entry.deserted:
            return
        if entry.waits or now < entry.left + RETURN_S:
            self._deserted.append((now + RETURN_S, key))
        else:
            self._give_up(key)

    def _look(self, key: Key, now: float) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry.deadline is not None and now > entry.deadline + OVERDUE_S:
            self._fail(key, Unavailable(f"call {key[1]} is overdue; it was accepted, ask for it again by its id"))
            return
        self._want(key)
        self._plan(key, entry, now)

    def _plan(self, key: Key, entry: _Entry, now: float) -> None:
        """Choose when to look next: spread, rarer and rarer, but at the deadline and often after it."""
        pause = entry.pause * random.uniform(0.8, 1.2)  # noqa: S311 spreads load, guards nothing
        if entry.deadline is None:
            pause = FIRST_LOOK_S
        else:
            entry.pause = min(2 * entry.pause, LAST_LOOK_S)
            pause = LATE_LOOK_S if now >= entry.deadline else min(pause, entry.deadline - now)
        self._looks[int((now + pause) / TICK_S) + 1].append(key)

    async def _fetch(self) -> None:
        """Do all round trips, one after another: what comes up during one goes together in the next."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                while self._unwanted or self._wanted:
                    await self._cancel_some()
                    await self._fetch_some()
            except SandboxError as error:
                # The queue is away; what is still awaited is looked at again by its plan.
                self._log.warning("queue_unreachable", code=error.code)
                await asyncio.sleep(LATE_LOOK_S)

    async def _cancel_some(self) -> None:
        if not self._unwanted:
            return
        tenant, ids = _portion(self._unwanted)
        try:
            # Who came back meanwhile holds the call again, under the same name.
            left = [call_id for call_id in ids if (tenant, call_id) not in self._entries]
            await self._queue.abandon(tenant, left, notify=self._channel)
        except SandboxError:
            self._unwanted[tenant].update(dict.fromkeys(ids))
            self._work.set()
            raise

    async def _fetch_some(self) -> None:
        if not self._wanted:
            return
        tenant, ids = _portion(self._wanted)
        ids = [call_id for call_id in ids if (tenant, call_id) in self._entries]  # the others would be held again
        records = await self._queue.fetch(tenant, ids, notify=self._channel)
        for call_id, record in zip(ids, records, strict=True):
            self.settle(tenant, call_id, record)


def _portion(ids_of: defaultdict[str, dict[str, None]]) -> tuple[str, list[str]]:
    """Take out up to FETCH_MANY ids of one tenant; with more left, the other tenants come first."""
    tenant = next(iter(ids_of))
    ids = list(ids_of.pop(tenant))
    if len(ids) > FETCH_MANY:
        ids_of[tenant] = dict.fromkeys(ids[FETCH_MANY:])
    return tenant, ids[:FETCH_MANY]
