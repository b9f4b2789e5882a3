"""Calls: what every transport asks for - admit, await, look up, cancel. Knows the queue and no transport.

A refusal raises before anything was accepted. What was accepted is awaited through a Wait, whose Results are the
bytes that the worker wrote (a complete Result as JSON each), never parsed here. Ids of another tenant are unknown ids,
because every key of the queue holds the tenant.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence

from sandbox_service.config import Settings
from sandbox_service.errors import InvalidCall, NotFound, Overloaded, ResultGone, SandboxError
from sandbox_service.gateway import jobs
from sandbox_service.gateway.admission import Admission
from sandbox_service.gateway.standing import Standing
from sandbox_service.gateway.tenants import Tenants
from sandbox_service.gateway.wait import Wait
from sandbox_service.gateway.waiting import Waiting
from sandbox_service.metrics import CALLS_ACCEPTED, CALLS_REFUSED
from sandbox_service.models import Batch, Call
from sandbox_service.queue import Queue, Record, State, Submission

IMAGES_S = 2.0
"""How long the answer to "which images do workers serve" is good for."""
_CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}(\.[0-9]{1,4})?")
_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,48}")


class Calls:
    """The service as one gateway process offers it."""

    def __init__(self, settings: Settings, queue: Queue) -> None:
        self._settings = settings
        self._queue = queue
        self._channel = secrets.token_hex(8)
        self._waiting = Waiting(queue, self._channel, cancel_abandoned=settings.cancel_on_disconnect)
        self._admissions: dict[str, Admission] = {}
        self.tenants = Tenants(settings.tenants_file)
        self._standing = Standing(settings.default_timeout_s)
        self._images: set[str] = set()
        self._images_until = 0.0

    @property
    def in_flight(self) -> int:
        """Calls that somebody waits for here."""
        return len(self._waiting)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Results arrive inside this context."""
        task = asyncio.create_task(self._waiting.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def release(self) -> None:
        """End every wait with Unavailable; the calls go on. For a gateway that has to stop now."""
        self._waiting.release()

    async def admit(
        self, tenant: str, call: Call, *, arrived: float, keep: bool = False, within_s: float | None = None
    ) -> Wait:
        """Accept one call. `arrived`: when its request did (time.monotonic). `keep`: somebody holds a ticket for it,
        so it goes on whoever stops waiting. `within_s`: how long the transport itself lets the client wait, from
        arrival. Raise InvalidCall, Conflict, Overloaded or Unavailable."""
        await self._check_images([call], [""])
        call_id = call.id or jobs.new_id()
        age_s = time.monotonic() - arrived
        submission = jobs.submission(call, call_id, self._settings, age_s=age_s, within_s=within_s, keep=keep)
        wait = self._waiting.open(tenant, [call_id], name=f"call {call_id}", private=call.id is None)
        try:
            return await self._accept(wait, [submission], self._submit(tenant, submission))
        except Overloaded as error:
            self._standing.note(tenant, self.tenants.policy(tenant), call, submission.timeout_s, error)
            raise

    @property
    def refuses(self) -> bool:
        """Whether some calls are refused without a look at them just now."""
        return bool(self._standing)

    def refused_already(self, tenant: str, body: bytes, head: bytes = b"") -> Overloaded | None:
        """Return why the call in this JSON would be refused, if that is known without a look at it. It is counted.
        `head`: of its HTTP request, after which `refused_again` knows those that are like it."""
        return self._standing.find(tenant, self.tenants.policy(tenant), body, head)

    def forget_refusals(self) -> None:
        """Look at every call again: keys or tenants are others now."""
        self._standing.forget()

    def refused_again(self, request: bytes) -> Overloaded | None:
        """Return why this is refused if it is a whole HTTP request that repeats a refused one. It is counted."""
        return self._standing.repeated(request, self.tenants.policy)

    async def admit_batch(
        self, tenant: str, batch: Batch, *, arrived: float, keep: bool = False, within_s: float | None = None
    ) -> tuple[str, Wait]:
        """Accept all calls of a batch or none; return its id too. As `admit` otherwise."""
        places = [f"calls.{index}." for index in range(len(batch.calls))]
        await self._check_images(batch.calls, places)
        batch_id = batch.id or jobs.new_id()
        ids = jobs.name_calls(batch, batch_id)
        age_s = time.monotonic() - arrived
        submissions = [
            jobs.submission(call, call_id, self._settings, age_s=age_s, within_s=within_s, keep=keep, place=place)
            for call, call_id, place in zip(batch.calls, ids, places, strict=True)
        ]
        private = batch.id is None and all(call.id is None for call in batch.calls)
        wait = self._waiting.open(tenant, ids, name=f"batch {batch_id}", private=private)
        policy = self.tenants.policy(tenant)
        submitted = self._queue.submit(tenant, submissions, batch=batch_id, notify=self._channel, policy=policy)
        return batch_id, await self._accept(wait, submissions, submitted)

    async def get(self, tenant: str, call_id: str, *, long: bool) -> Wait:
        """Look up a call; what is done is in the Wait already. `long`: the rest will be awaited.

        Raise NotFound, or ResultGone when the Result has passed its time to live.
        """
        if not _CALL_ID.fullmatch(call_id):
            raise _unknown_call()
        return await self._look_up(tenant, [call_id], f"call {call_id}", long=long)

    async def get_batch(self, tenant: str, batch_id: str, *, long: bool) -> Wait:
        """Look up a batch, as `get` does a call."""
        ids = await self._batch_ids(tenant, batch_id)
        return await self._look_up(tenant, ids, f"batch {batch_id}", long=long)

    async def cancel(self, tenant: str, call_id: str) -> State:
        """Cancel a call. Return its state now: a running one ends as soon as its worker has killed it."""
        if not _CALL_ID.fullmatch(call_id):
            raise _unknown_call()
        return (await self._cancel(tenant, [call_id]))[0]

    async def cancel_batch(self, tenant: str, batch_id: str) -> State:
        """Cancel all calls of a batch that are not done. Return the state of them all."""
        return overall(await self._cancel(tenant, await self._batch_ids(tenant, batch_id)))

    async def cancel_label(self, tenant: str, name: str, value: str) -> int:
        """Cancel the tenant's unfinished calls that carry this label; return how many."""
        return await self._queue.cancel_label(tenant, name, value)

    async def _accept(
        self, wait: Wait, submissions: Sequence[Submission], submitted: Awaitable[Sequence[Record]]
    ) -> Wait:
        # The wait is open before the calls are sent: a result that comes at once is not missed.
        try:
            records = await submitted
        except BaseException:
            wait.close()
            raise
        CALLS_ACCEPTED.inc(len(records))
        wait.state = overall([record.state for record in records])
        now = asyncio.get_running_loop().time()
        self._waiting.admitted(wait, [now + submission.timeout_s for submission in submissions])
        self._settle(wait, records)
        return wait

    async def _look_up(self, tenant: str, ids: Sequence[str], name: str, *, long: bool) -> Wait:
        wait = self._waiting.open(tenant, ids, name=name)
        try:
            records = await self._queue.fetch(tenant, ids, notify=self._channel if long else None)
            known = _known([record if record is None else record.state for record in records])
        except BaseException:
            wait.close()
            raise
        wait.state = overall(known)
        self._waiting.admitted(wait, [None] * len(ids))
        self._settle(wait, records)
        return wait

    def _settle(self, wait: Wait, records: Sequence[Record | None]) -> None:
        for (tenant, call_id), record in zip(wait.keys, records, strict=True):
            self._waiting.settle(tenant, call_id, record)

    async def _submit(self, tenant: str, submission: Submission) -> list[Record]:
        admission = self._admissions.get(tenant)
        if admission is None:
            admission = self._admissions[tenant] = Admission(self._queue, tenant, self._channel, self.tenants.policy)
        return [await admission.submit(submission)]

    async def _batch_ids(self, tenant: str, batch_id: str) -> list[str]:
        ids = await self._queue.fetch_batch(tenant, batch_id) if _BATCH_ID.fullmatch(batch_id) else None
        if ids is None:
            raise NotFound("no batch with this id; ids are forgotten some time after the results")
        return ids

    async def _cancel(self, tenant: str, ids: Sequence[str]) -> list[State]:
        return _known(await self._queue.cancel(tenant, ids))

    async def _check_images(self, calls: Sequence[Call], places: Sequence[str]) -> None:
        names = [call.image or self._settings.image for call in calls]
        known = await self._known_images(set(names))
        for name, place in zip(names, places, strict=True):
            if name not in known:
                raise InvalidCall(
                    f"{place}image: no worker serves an image named {name!r}; there is {', '.join(sorted(known))}",
                    field=f"{place}image",
                )

    async def _known_images(self, wanted: set[str]) -> set[str]:
        """Return the images that workers serve, or the last ones they did; before any worker came, the default."""
        now = time.monotonic()
        if now >= self._images_until or not wanted <= self._images:
            self._images_until = now + IMAGES_S
            self._images = await self._queue.images() or self._images
        return self._images or {self._settings.image}


@contextlib.contextmanager
def refusals_counted() -> Iterator[None]:
    """Around all that can refuse a request before anything of it is accepted."""
    try:
        yield
    except SandboxError as error:
        CALLS_REFUSED.labels(error.code).inc()
        raise


def overall(states: Sequence[State]) -> State:
    """Return the state of calls taken together: done when all are, queued when none has begun."""
    first = states[0]
    return first if all(state == first for state in states) else "running"


def _known(states: Sequence[State | None]) -> list[State]:
    """Raise NotFound or ResultGone if that is what became of one of these calls."""
    if "gone" in states:
        raise ResultGone("the result has passed its time to live (SANDBOX_RESULT_TTL_S)")
    if None in states:
        raise _unknown_call()
    return [state for state in states if state is not None]


def _unknown_call() -> NotFound:
    return NotFound("no call with this id; ids are forgotten some time after the result")
