"""The queue's operations: what a gateway and a worker can do. Each is one script run, or a few."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

from redis.exceptions import RedisError

from sandbox_service.config import Settings
from sandbox_service.errors import SandboxError, SetupError, Unavailable
from sandbox_service.queue.heartbeat import Heartbeat
from sandbox_service.queue.keys import with_prefix
from sandbox_service.queue.letters import Letters
from sandbox_service.queue.link import PATIENCE_S, Link, jittered
from sandbox_service.queue.outage import Outage
from sandbox_service.queue.policy import NO_LIMITS, Policy
from sandbox_service.queue.records import (
    Ended,
    Execution,
    Record,
    State,
    Submission,
    ended_of,
    executions_of,
    micros,
    names_of,
    packed,
    records_of,
    state_of,
)
from sandbox_service.queue.refusals import conflict, outcomes_of, refusal
from sandbox_service.queue.scripts import GONE_FACTOR, load_scripts
from sandbox_service.queue.wakeups import WAKE_POLL_S, Wakeups

FINISH_PATIENCE_S = 30.0
"""A result is worth more patience than a request: the code has run already."""
CANCEL_POLL_S = 1.0
_PAGE = 500
_SWEEP_PAGE = 100


class Queue:
    """All of Redis that anyone may touch. Safe to share between tasks; survives cancellation of any caller.

    One process has one Queue, and at most one worker joins through it. Every method that talks to the server
    raises Unavailable when it can't be reached, after a few tries; what was asked may then have happened or not,
    and asking again is safe: every transition can be repeated.
    """

    def __init__(self, link: Link, settings: Settings) -> None:
        self._link = link
        self._keys = with_prefix(settings.redis_prefix)
        self._scripts = load_scripts(self._keys, settings.result_ttl_s)
        self._result_ttl_s = settings.result_ttl_s
        self._bounds = (settings.max_queued, settings.max_queued_mb * 2**20)
        self._slots, self._python = 0, ""
        self._lease_s = settings.lease_s
        self._claims = Outage("claiming calls")
        self._wakeups = Wakeups(link, self._keys)
        self.letters = Letters(link, self._keys)
        self._heartbeat: Heartbeat | None = None
        self._images: list[str] = []
        self._held: dict[tuple[str, str], Execution] = {}
        self._sweep_from: dict[bytes, bytes] = {}

    @classmethod
    async def connect(cls, settings: Settings) -> Queue:
        """Connect, and check that the server is safe to use: SetupError says what to change, Unavailable that it
        can't be reached (now)."""
        if settings.redis_url is None:
            raise SetupError("set SANDBOX_REDIS_URL, or run `sandbox-service serve`, which starts a server of its own")
        link = Link(settings.redis_url)
        try:
            await link.check()
        except BaseException:
            await link.close()
            raise
        return cls(link, settings)

    async def close(self) -> None:
        """Let what is under way end, then disconnect. Executions still held are left to recovery."""
        await self._stop_heartbeat()
        await self._link.close()

    # gateway

    async def submit(
        self,
        tenant: str,
        submissions: Sequence[Submission],
        *,
        batch: str | None = None,
        notify: str,
        policy: Policy = NO_LIMITS,
    ) -> list[Record]:
        """Admit all or none, atomically. A repeat answers the existing record; Conflict if its digest differs.

        Overloaded beyond what the service can hold or run before the deadline, QuotaExceeded beyond the tenant's
        policy; both say in `retry_after_s` when there will be room. With `batch`, the batch id is recorded too.
        `notify`: the gateway's channel name that finished ids are announced to; it holds the calls (see `abandon`).
        """
        reply = await self._submit("all", tenant, submissions, batch, notify, policy)
        if reply[0] == b"conflict":
            raise conflict(submissions, int(reply[1]), batch)
        if reply[0] == b"refused":
            raise refusal(reply[1])
        return [record for record in records_of([each.id for each in submissions], reply[1:]) if record is not None]

    async def submit_each(
        self, tenant: str, submissions: Sequence[Submission], *, notify: str, policy: Policy = NO_LIMITS
    ) -> list[Record | SandboxError]:
        """Admit each call by itself, in one round trip; in place of its record, the error that `submit` would raise."""
        reply = await self._submit("each", tenant, submissions, None, notify, policy)
        return outcomes_of(submissions, reply[1:])

    async def _submit(
        self,
        mode: str,
        tenant: str,
        submissions: Sequence[Submission],
        batch: str | None,
        notify: str,
        policy: Policy,
    ) -> Any:
        digest = hashlib.sha256("".join(f"{each.id} {each.digest}\n" for each in submissions).encode())
        fields = [field for each in submissions for field in each.fields()]
        known_s = max((each.timeout_s for each in submissions), default=0.0) + GONE_FACTOR * self._result_ttl_s
        head = (tenant, notify, mode, batch or "", digest.hexdigest(), _millis(known_s), self._slots, *self._bounds)
        return await self._run("submit", *head, *policy.numbers(), *fields)

    async def fetch(self, tenant: str, ids: Sequence[str], *, notify: str | None = None) -> list[Record | None]:
        """Records of these calls (None: unknown). Ends calls whose deadline passed while queued as `expired`.

        With `notify`, a call that is not done will be announced to that channel, which holds it (see `abandon`).
        """
        return records_of(ids, await self._run("fetch", tenant, notify or "", *ids))

    async def fetch_batch(self, tenant: str, batch: str) -> list[str] | None:
        """Ids of a batch's calls, in order; None if unknown. It outlives its calls' results."""
        ids: bytes | None = await self._link.command("HGET", f"{self._keys['BATCH']}{tenant}:{batch}", "ids")
        return None if ids is None else ids.decode().split()

    async def cancel(self, tenant: str, ids: Sequence[str]) -> list[State | None]:
        """Cancel: queued → done (`cancelled`) at once; running → its worker is told; done: nothing. None: unknown.

        Answers the states afterwards.
        """
        return [state_of(state) for state in await self._run("cancel", tenant, "ids", *ids)]

    async def abandon(self, tenant: str, ids: Sequence[str], *, notify: str) -> int:
        """Nobody waits for these calls at this gateway any more. Cancel those that no other gateway waits for and
        nobody holds a ticket for; answer how many."""
        return int(await self._run("cancel", tenant, "abandoned", notify, *ids))

    async def cancel_label(self, tenant: str, name: str, value: str) -> int:
        """Cancel all of the tenant's unfinished calls that carry this label; answer how many."""
        total = 0
        lanes = [lane for lane in await self._lanes() if lane.endswith(f":{tenant}".encode())]
        # Calls move only to the lanes of second attempts, so these come last.
        for lane in sorted(lanes, key=lambda lane: b":again:" in lane):
            start: bytes | None = b"-"
            while start:
                count, last = await self._run("cancel", tenant, "label", name, value, lane, start, _PAGE)
                total += count
                start = last and b"(" + last
        return total

    async def finished(self, notify: str) -> AsyncIterator[list[Ended]]:
        """Announcements to this gateway. Reconnects lose some, so poll as well.

        An empty list comes after each (re)connect: from now on announcements arrive, earlier ones may be lost.
        """
        async for message in self._link.listen(self._keys["ENDED"] + notify):
            yield [] if message is None else ended_of(message)

    async def depth(self) -> int:
        """Calls that no worker has claimed yet."""
        return (await self.backlog())[0]

    async def backlog(self) -> tuple[int, int]:
        """(calls that no worker has claimed yet, bytes of all unfinished calls)"""
        queued, bytes_unfinished = await self._run("depth")
        return int(queued), int(bytes_unfinished)

    async def workers(self) -> int:
        """How many workers there are; one that was killed counts until somebody asks for `images`."""
        return int(await self._link.command("SCARD", self._keys["WORKERS"]))

    async def images(self) -> set[str]:
        """Names of the images that workers serve, also those that pause. How many slots claim now is remembered in
        `slots`, which tells how long calls will wait."""
        names = sorted(await self._link.command("SMEMBERS", self._keys["WORKERS"]))
        if not names:
            self._slots = 0
            return set()
        leases = await self._link.command("MGET", *(self._keys["WORKER"].encode() + name for name in names))
        silent = [name for name, lease in zip(names, leases, strict=True) if lease is None]
        if silent:  # each heartbeat adds its name again
            await self._link.command("SREM", self._keys["WORKERS"], *silent)
        told = [json.loads(lease) for lease in leases if lease is not None]
        self._slots = sum(each["slots"] for each in told)
        self._python = next((each["python"] for each in told if each.get("python")), self._python)
        return {image for each in told for image in each["images"]}

    @property
    def slots(self) -> int:
        """Slots of all workers that claimed calls when `images` was last asked for; 0: none, or every worker pauses."""
        return self._slots

    @property
    def python(self) -> str:
        """Version of Python in the workers' default image, of whom `images` learned; "": not known yet."""
        return self._python

    # worker

    async def join(self, worker: str, images: dict[str, str], *, slots: int = 1, python: str = "") -> None:
        """Announce a worker (name unique per start) with its images {name: hash}; starts its heartbeat thread."""
        heartbeat = Heartbeat(self._link.url, self._keys, worker, images, slots, self._lease_s, python)
        try:
            await asyncio.to_thread(heartbeat.beat)
        except RedisError as error:
            raise self._link.fault(error) from error
        heartbeat.start()
        self._heartbeat, self._images = heartbeat, list(images)

    def announce(self, *, slots: int) -> None:
        """Let gateways know with how many slots this worker claims from now on; 0 while it claims nothing."""
        if self._heartbeat is not None:
            self._heartbeat.tell(slots)
            self._heartbeat.beat_soon()

    async def leave(self, worker: str) -> None:
        """Give up the lease. What the worker still holds is taken back at once."""
        await self._stop_heartbeat()
        await self._link.settle()
        await self._link.command("DEL", self._keys["WORKER"] + worker)
        await self._link.command("SREM", self._keys["WORKERS"], worker)
        self._held.clear()
        await self.recover()

    async def claim(self, worker: str, count: int, *, wait_s: float) -> list[Execution]:
        """Claim up to `count` calls, waiting up to `wait_s` for the first. Claiming starts the attempt, atomically.

        A lost server is waited for like work: the answer is empty.
        """
        give_up = time.monotonic() + wait_s
        while True:
            try:
                claimed = await self._claim_now(worker, count)
                self._claims.over()
                remaining_s = give_up - time.monotonic()
                if claimed or remaining_s <= 0:
                    return claimed
                await self._wakeups.wait(self._images, min(remaining_s, WAKE_POLL_S))
            except Unavailable as error:
                self._claims.because(error)
                pause_s = jittered(0.5)
                if time.monotonic() + pause_s > give_up:
                    return []
                await asyncio.sleep(pause_s)

    async def finish(
        self, worker: str, results: Sequence[tuple[Execution, bytes]], *, cpu_s: Sequence[float] = ()
    ) -> list[bool]:
        """Store results and announce them, one round trip. False: stale, another attempt owns the call.
        `cpu_s`: what each used, for its tenant's account.

        Waits out a short loss of the server. When it gives up (Unavailable) the calls are run again by recovery.
        """
        fields: list[str | bytes | int] = []
        for (each, result), used_s in zip(results, cpu_s or [0.0] * len(results), strict=True):
            fields += (each.tenant, each.id, each.attempt, micros(used_s), packed(result))
        try:
            reply = await self._run("finish", worker, *fields, patience_s=FINISH_PATIENCE_S)
        finally:
            self._drop(each for each, _ in results)
        return [stored == 1 for stored in reply]

    async def release(self, worker: str, executions: Sequence[Execution]) -> None:
        """Give back executions that did not run; the attempt is not counted."""
        fields = [field for each in executions for field in (each.tenant, each.id, each.attempt)]
        try:
            await self._run("release", worker, *fields, patience_s=FINISH_PATIENCE_S)
        finally:
            self._drop(executions)

    async def retry(self, worker: str, execution: Execution) -> Execution | None:
        """Start the next attempt where this one failed by a fault of ours. None: another attempt owns the call, or none
        is left; then this one is to be given up. Unavailable: it may have been started, and is to be given up too.
        """
        attempt = await self._run("retry", worker, execution.tenant, execution.id, execution.attempt)
        if attempt is None:
            return None
        retried = replace(execution, attempt=int(attempt))
        self._held[execution.tenant, execution.id] = retried
        return retried

    def give_up(self, executions: Iterable[Execution]) -> None:
        """Hold these no longer: `recover` takes them back as it does a dead worker's, and the attempt counts."""
        self._drop(executions)

    async def cancellations(self, worker: str) -> AsyncIterator[tuple[str, str]]:
        """(tenant, id) of calls to kill on this worker; the same one may come more than once.

        Messages are the fast path. The flags of what is held are read as well, so that none is lost with a
        connection, or by coming while the answer of its claim was under way.
        """
        told: set[Execution] = set()
        async for message in self._link.listen(self._keys["CANCELS"] + worker, tick_s=CANCEL_POLL_S):
            told.intersection_update(self._held.values())
            names = None if message is None else names_of(message)
            if names is None:  # also after a message that cannot be read: the flags tell
                held = await self._flagged([each for each in self._held.values() if each not in told])
            else:
                held = [self._held[name] for name in names if name in self._held]
            for execution in held:
                told.add(execution)
                yield execution.tenant, execution.id

    async def recover(self) -> int:
        """Take back executions of workers that lost their lease: queue them again, or end them as `infra_error`
        after the second attempt. Any worker calls this, any number at once. Answers how many.

        It also ends some of the calls that passed their deadline in the queue.
        """
        server = await self._link.command("INFO", "server")
        if server["uptime_in_seconds"] < 2 * self._lease_s:
            return 0  # leases ran out while the server was down: let their owners renew them
        if self._heartbeat is not None and self._heartbeat.outage.failed_within(self._lease_s):
            return 0  # our beats did not get through, so those of others may not have, either
        me = self._heartbeat.worker if self._heartbeat is not None else ""
        taken = 0
        for lane in await self._lanes():
            held = [f"{tenant}:{call_id}" for tenant, call_id in self._held]
            taken += int(await self._run("recover", lane, me, _millis(self._lease_s), *held))
            last = await self._run("sweep", lane, self._sweep_from.get(lane, b"-"), _SWEEP_PAGE)
            if last:
                self._sweep_from[lane] = b"(" + last
            else:
                self._sweep_from.pop(lane, None)
        await self.depth()
        return taken

    # parts of the above

    async def _run(self, script: str, *args: str | bytes | int, patience_s: float = PATIENCE_S) -> Any:
        return await self._link.run(self._scripts[script], *args, patience_s=patience_s)

    async def _lanes(self) -> list[bytes]:
        return sorted(await self._link.command("SMEMBERS", self._keys["LANES"]))

    async def _stop_heartbeat(self) -> None:
        if self._heartbeat is not None:
            await self._heartbeat.stop()
            self._heartbeat = None

    async def _claim_now(self, worker: str, count: int) -> list[Execution]:
        task = self._link.spawn(self._claim_once(worker, count))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._link.spawn(self._give_back(worker, task))
            raise

    async def _claim_once(self, worker: str, count: int) -> list[Execution]:
        # Which image is asked first rotates: none starves while all are busy.
        self._images = self._images[1:] + self._images[:1]
        # Not tried again: a claim whose answer is lost may have started attempts, which `recover` takes back.
        reply = await self._run("claim", worker, count, *self._images, patience_s=0)
        if reply[0] == b"lost":
            if self._heartbeat is not None:
                self._heartbeat.beat_soon()
            raise Unavailable(f"worker {worker} has no lease: its heartbeat was not heard for {self._lease_s} s")
        executions = executions_of(reply[1:])
        self._held.update(((each.tenant, each.id), each) for each in executions)
        return executions

    async def _give_back(self, worker: str, claim: asyncio.Task[list[Execution]]) -> None:
        """Release what was claimed for a caller that went away meanwhile."""
        await asyncio.wait([claim])
        if not claim.cancelled() and claim.exception() is None and claim.result():
            await self.release(worker, claim.result())

    def _drop(self, executions: Iterable[Execution]) -> None:
        for each in executions:
            if self._held.get((each.tenant, each.id)) == each:
                del self._held[each.tenant, each.id]

    async def _flagged(self, executions: Sequence[Execution]) -> list[Execution]:
        """Those that were cancelled. None of them when the server can't be asked now: the next poll does."""
        if not executions:
            return []

        async def ask() -> list[bytes | None]:
            async with self._link.client.pipeline(transaction=False) as pipeline:
                for each in executions:
                    pipeline.hget(f"{self._keys['CALL']}{each.tenant}:{each.id}", "cancel")
                return list(await pipeline.execute())

        try:
            flags = await self._link.attempt(ask, patience_s=0)
        except Unavailable:
            return []
        return [each for each, flag in zip(executions, flags, strict=True) if flag is not None]


def _millis(seconds: float) -> int:
    return round(seconds * 1000)
