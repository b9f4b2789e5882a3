"""Micro-batching: calls of one tenant that arrive during a round trip to the queue go together in the next one.

An idle gateway adds no delay (the first call is sent at once), a busy one batches by itself. Each call is admitted or
refused by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sandbox_service.queue import Policy, Queue, Record, Submission

MOST_CALLS = 128
MOST_BYTES = 4 * 2**20
"""A round trip carries at most this many calls, or one call if that is larger than this many bytes."""


class Admission:
    """The line of one tenant's calls in front of the queue."""

    def __init__(self, queue: Queue, tenant: str, channel: str, policy: Callable[[str], Policy]) -> None:
        self._queue = queue
        self._tenant = tenant
        self._channel = channel
        self._policy = policy
        self._line: deque[tuple[Submission, asyncio.Future[Record]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def submit(self, submission: Submission) -> Record:
        """Return what the queue knows of the call once it has it; raise as Queue.submit does."""
        accepted: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._line.append((submission, accepted))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        try:
            return await accepted
        finally:
            del accepted  # it holds the error, whose traceback holds this frame: a cycle, with the whole request in it

    async def _send_all(self) -> None:
        while self._line:
            portion = [self._line.popleft()]
            size = len(portion[0][0].payload)
            while self._line and len(portion) < MOST_CALLS and size + len(self._line[0][0].payload) <= MOST_BYTES:
                portion.append(self._line.popleft())
                size += len(portion[-1][0].payload)
            await self._send(portion)
        self._sender = None

    async def _send(self, portion: list[tuple[Submission, asyncio.Future[Record]]]) -> None:
        try:
            submissions = [submission for submission, _ in portion]
            policy = self._policy(self._tenant)
            outcomes = await self._queue.submit_each(self._tenant, submissions, notify=self._channel, policy=policy)
        except Exception as error:  # the boundary: whatever it is, each of these requests has to hear of it
            for _, accepted in portion:
                _settle(accepted, error)
        else:
            for (_, accepted), outcome in zip(portion, outcomes, strict=True):
                _settle(accepted, outcome)


def _settle(accepted: asyncio.Future[Record], outcome: Record | Exception) -> None:
    if accepted.done():  # the request was cancelled meanwhile
        return
    if isinstance(outcome, Exception):
        accepted.set_exception(outcome)
    else:
        accepted.set_result(outcome)
