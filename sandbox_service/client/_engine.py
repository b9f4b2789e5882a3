"""One event loop's connection to a service: coalescing, streams, repeats, fail-over, numbers.

Invariants: a call that was started is settled exactly once, by its Result, by a SandboxError or by its caller's
leaving; it is sent under one id until a Result comes, and under an id that follows from it after an `infra_error`.
A call whose caller left is cancelled at the service. One call that the service refuses never fails its companions.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sandbox_service.client import _wire
from sandbox_service.client._coalesce import Awaited, Line, Stream
from sandbox_service.client._retries import Attempts, Gateways, Retries
from sandbox_service.client._stats import Recorder
from sandbox_service.client._transport import Transport, open_transport
from sandbox_service.errors import Conflict, InvalidCall, NotFound, SandboxError, ServiceFault, TooLarge, Unavailable
from sandbox_service.models import Call, Result, Status

ANSWER_MARGIN_S = 10.0
"""How much longer than the call's own deadline an answer is waited for: the service itself says `expired`."""
CANCELLERS = 8
_ABOUT_ONE = re.compile(r"calls\.([0-9]+)\.?")

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """Everything that a client was made with; all that is pickled of it."""

    urls: tuple[str, ...]
    api_key: str | None = field(repr=False)
    retries: Retries
    coalesce_calls: int
    coalesce_s: float
    max_connections: int


class Engine:
    """Serves one event loop, and is used in it only."""

    def __init__(self, options: Options) -> None:
        self.recorder = Recorder()
        self._retries = options.retries
        self._gateways = Gateways(
            [
                # Streams leave some connections free, so that a cancel or a poll never waits for one.
                open_transport(url, api_key=options.api_key, max_connections=options.max_connections + 2 * CANCELLERS)
                for url in options.urls
            ]
        )
        self._line = Line(
            self._send, calls=options.coalesce_calls, linger_s=options.coalesce_s, streams=options.max_connections
        )
        self._awaited: set[Awaited] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._left: deque[str] = deque()
        self._closed = False
        self._cancellers = 0

    def start(self, call: Call) -> asyncio.Future[Result]:
        """Run a prepared call; the future gives its Result. Cancelling the future cancels the call."""
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        assert call.timeout_s is not None
        patience_s = call.timeout_s + ANSWER_MARGIN_S
        awaited = Awaited(call, loop.create_future(), now, now + patience_s)
        awaited.timer = loop.call_later(patience_s, self._expire, awaited)
        awaited.future.add_done_callback(lambda _: self._settled(awaited))
        self._awaited.add(awaited)
        self._line.add(awaited)
        return awaited.future

    async def run(self, call: Call) -> Result:
        return await self.start(call)

    async def ask(self, operation: Callable[[Transport, float], Awaitable[T]], timeout_s: float) -> T:
        """Do `operation(transport, seconds left)` until it succeeds or is final."""
        task = self._spawn(self._ask(operation, timeout_s))
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
        if task.cancelled():
            raise Unavailable("the client was closed before it had an answer")
        return task.result()

    async def _ask(self, operation: Callable[[Transport, float], Awaitable[T]], timeout_s: float) -> T:
        attempts = Attempts(self._retries, time.monotonic() + timeout_s)
        while True:
            gateway = self._gateways.choose()
            try:
                answer = await operation(gateway, attempts.remaining_s)
            except SandboxError as error:
                await self._pause(gateway, error, attempts)
            else:
                self._gateways.answered(gateway)
                return answer

    async def close(self) -> None:
        """End what is under way, which gets Unavailable, and close the connections.

        The service hears of calls that nobody waits for any more by the end of their connection.
        """
        self._closed = True
        for each in self._awaited:
            self._settle(each, Unavailable(f"the client was closed before call {each.first_id} was answered"))
        while self._tasks:  # one that ends may have begun another
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        for transport in self._gateways.transports:
            await transport.close()

    # streams

    def _send(self, group: list[Awaited]) -> None:
        self._open(group).add_done_callback(lambda _: self._line.stream_ended())

    def _open(self, group: list[Awaited]) -> asyncio.Task[None]:
        stream = Stream(group)
        stream.task = self._spawn(self._carry(stream))
        return stream.task

    async def _carry(self, stream: Stream) -> None:
        """Bring home the Results of a stream, over as many attempts as it takes."""
        attempts = Attempts(self._retries, max(each.deadline for each in stream.missing.values()))
        try:
            while stream.missing:
                await self._attempt(stream, attempts)
        except SandboxError as error:
            self._fail(stream, error)
        except Exception as error:
            # The boundary: not the service's doing. It may be one call's, so the others get a try of their own.
            if len(stream.missing) > 1:
                self._split(stream)
            else:
                self._fail(stream, error)

    async def _attempt(self, stream: Stream, attempts: Attempts) -> None:
        sent = list(stream.missing.values())
        gateway = self._gateways.choose()
        try:
            results = gateway.stream([each.call for each in sent], attempts.remaining_s)
            async with contextlib.aclosing(results):
                async for result in results:
                    if (awaited := stream.missing.pop(result.id, None)) is not None:
                        attempts.answered()
                        self._arrived(awaited, result)
            if left_out := [each.call.id for each in sent if each.call.id in stream.missing]:
                raise ServiceFault(f"the stream of results left out calls {left_out[:10]}")
            self._gateways.answered(gateway)
        except (InvalidCall, Conflict, TooLarge) as error:
            self._gateways.answered(gateway)
            self._single_out(stream, sent, error)
        except SandboxError as error:
            await self._pause(gateway, error, attempts)

    async def _pause(self, gateway: Transport, error: SandboxError, attempts: Attempts) -> None:
        """Wait before the next attempt, unless another address may answer; raise the error if it is final."""
        another = self._gateways.failed(gateway, error)
        pause_s = attempts.failed(error)
        self.recorder.retries += 1
        await asyncio.sleep(0 if another else pause_s)

    def _single_out(self, stream: Stream, sent: list[Awaited], error: SandboxError) -> None:
        """A call of this stream was refused: find out which, so that the others can be sent again."""
        about = _ABOUT_ONE.match(error.field or "")
        if about and int(about[1]) < len(sent):
            field = (error.field or "")[about.end() :] or None
            refused = sent[int(about[1])]
            if stream.missing.pop(refused.call.id, None) is not None:
                self._settle(refused, type(error)(error.message.removeprefix(about[0]), field=field))
        elif len(stream.missing) > 1:
            self._split(stream)
        else:
            raise error

    def _split(self, stream: Stream) -> None:
        """Carry the calls of a stream in two halves."""
        group = list(stream.missing.values())
        stream.missing.clear()
        self._open(group[: len(group) // 2])
        self._open(group[len(group) // 2 :])

    def _fail(self, stream: Stream, error: Exception) -> None:
        """No attempt is left: this is what the callers of the rest get, each an error of its own."""
        group = list(stream.missing.values())
        stream.missing.clear()
        for each in group:
            self._settle(each, _copied(error) if isinstance(error, SandboxError) else error)

    # calls

    def _arrived(self, awaited: Awaited, result: Result) -> None:
        if result.status is Status.INFRA_ERROR:
            self.recorder.infra_errors += 1
            if self._runs_again(awaited):
                return
        if awaited.again:
            note = f"run again as {awaited.call.id} after an infra_error"
            message = f"{result.message}; {note}" if result.message else note
            result = result.model_copy(update={"id": awaited.first_id, "message": message})
        self._settle(awaited, result)

    def _runs_again(self, awaited: Awaited) -> bool:
        pause_s = self._retries.jitter_s(awaited.again + 1)
        if awaited.again >= self._retries.infra_errors or time.monotonic() + pause_s >= awaited.deadline:
            return False
        awaited.again += 1
        awaited.call = _wire.again(awaited.call, awaited.first_id, awaited.again)
        asyncio.get_running_loop().call_later(pause_s, self._line.add, awaited)
        return True

    def _settle(self, awaited: Awaited, outcome: Result | Exception) -> None:
        if awaited.future.done():
            return
        if isinstance(outcome, Exception):
            self.recorder.errors[outcome.code if isinstance(outcome, SandboxError) else type(outcome).__name__] += 1
            awaited.future.set_exception(outcome)
        else:
            self.recorder.statuses[outcome.status.value] += 1
            self.recorder.took(time.monotonic() - awaited.begun)
            awaited.future.set_result(outcome)

    def _expire(self, awaited: Awaited) -> None:
        timeout_s = awaited.call.timeout_s
        self._settle(awaited, Unavailable(f"call {awaited.first_id} was not answered within its {timeout_s:g} s"))

    def _settled(self, awaited: Awaited) -> None:
        """The future is done: by an answer, or because nobody waits for one any more."""
        self._awaited.discard(awaited)
        if awaited.timer is not None:
            awaited.timer.cancel()
        if awaited.future.cancelled():
            self.recorder.cancelled += 1
        stream = awaited.stream
        if stream is not None and stream.missing.pop(awaited.call.id, None) is not None:
            self._cancel(awaited.call.id)
            if not stream.missing and stream.task is not None:
                stream.task.cancel()

    # callers who left

    def _cancel(self, id: str | None) -> None:
        assert id is not None
        if self._closed:
            return
        self._left.append(id)
        if self._cancellers < CANCELLERS:
            self._cancellers += 1
            self._spawn(self._cancel_left())

    async def _cancel_left(self) -> None:
        """Tell the service of calls that nobody waits for any more."""
        try:
            while self._left:
                id = self._left.popleft()
                with contextlib.suppress(SandboxError):  # then it runs to its end, or to its deadline
                    await self._cancel_surely(id)
        finally:
            self._cancellers -= 1

    async def _cancel_surely(self, id: str) -> None:
        for pause_s in (0.0, 0.2, 1.0):
            await asyncio.sleep(pause_s)
            with contextlib.suppress(NotFound):  # it may still be on its way
                await self._ask(lambda gateway, left_s: gateway.cancel(id, left_s), ANSWER_MARGIN_S)
                return

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _copied(error: SandboxError) -> SandboxError:
    """Errors collect tracebacks as they are raised: two callers never share one."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
