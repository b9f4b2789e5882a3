"""The methods of `sandbox.proto`, each the twin of an HTTP route: reads a message, asks Calls, writes messages.

An RPC that is cancelled, or whose deadline passes, ends as an HTTP request whose client closed its connection: what
only it waited for is cancelled. The RPC's deadline also bounds the calls: what could not start within it never runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TypeVar

from google.protobuf.message import Message
from pydantic import BaseModel, ValidationError

from sandbox_service.config import Settings
from sandbox_service.errors import InvalidCall, TooSlow
from sandbox_service.gateway.body import invalid_call
from sandbox_service.gateway.calls import Calls, refusals_counted
from sandbox_service.gateway.rpc.edge import Context, send, tenant
from sandbox_service.gateway.rpc.stream import answer_stream
from sandbox_service.gateway.verify import verify
from sandbox_service.gateway.wait import Wait
from sandbox_service.models import Batch, Call, Checks, Verdicts
from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.convert import decode, to_fields, to_message
from sandbox_service.queue import State

ModelT = TypeVar("ModelT", bound=BaseModel)
Accepted = TypeVar("Accepted", Wait, tuple[str, Wait])


class Service:
    """One method for each of the service's; `server.py` gives them their names on the wire."""

    def __init__(self, settings: Settings, calls: Calls) -> None:
        self._calls = calls
        self._max_wait_s = settings.max_wait_s

    async def run(self, request: bytes, context: Context) -> pb.Result:
        with refusals_counted():
            call = decode(pb.Call, request)
        return await self._run(call, context.time_remaining())

    async def run_batch(self, request: bytes, context: Context) -> None:
        arrived = time.monotonic()
        with refusals_counted():
            batch = _model(Batch, decode(pb.Batch, request))
            admission = self._calls.admit_batch(tenant(), batch, arrived=arrived, within_s=context.time_remaining())
            batch_id, wait = await _admitted(admission)
        with _for_its_client(wait):
            async for message in _events(batch_id, wait):
                await send(context, message)

    async def stream(self, requests: AsyncIterator[bytes], context: Context) -> None:
        await answer_stream(requests, context, self._run)

    async def submit(self, request: bytes, context: Context) -> pb.Ticket:
        arrived = time.monotonic()
        with refusals_counted():
            call = _model(Call, decode(pb.Call, request))
            wait = await self._calls.admit(tenant(), call, arrived=arrived, keep=True)
        with wait:
            return _ticket(wait.keys[0][1], wait.state)

    async def submit_batch(self, request: bytes, context: Context) -> pb.Ticket:
        arrived = time.monotonic()
        with refusals_counted():
            batch = _model(Batch, decode(pb.Batch, request))
            batch_id, wait = await self._calls.admit_batch(tenant(), batch, arrived=arrived, keep=True)
        with wait:
            return _ticket(batch_id, wait.state)

    async def get(self, request: bytes, context: Context) -> pb.CallState:
        lookup, wait_s = self._lookup(request)
        with await self._calls.get(tenant(), lookup.id, long=wait_s > 0) as wait:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    [result] = await wait.all()
                    return pb.CallState(result=_result(result))
            return pb.CallState(ticket=_ticket(lookup.id, wait.state))

    async def get_batch(self, request: bytes, context: Context) -> None:
        lookup, wait_s = self._lookup(request)
        with await self._calls.get_batch(tenant(), lookup.id, long=wait_s > 0) as wait:
            async for message in _events(lookup.id, wait, until=asyncio.get_running_loop().time() + wait_s):
                await send(context, message)

    async def cancel(self, request: bytes, context: Context) -> pb.Cancelled:
        wish = decode(pb.CancelRequest, request)
        match wish.WhichOneof("what"):
            case "id":
                return to_message(pb.Cancelled, {"state": await self._calls.cancel(tenant(), wish.id)})
            case "batch":
                return to_message(pb.Cancelled, {"state": await self._calls.cancel_batch(tenant(), wish.batch)})
            case "label" if wish.label.name:
                count = await self._calls.cancel_label(tenant(), wish.label.name, wish.label.value)
                return pb.Cancelled(count=count)
        raise InvalidCall("what: say what to cancel: `id`, `batch`, or `label` with name and value", field="what")

    async def verify(self, request: bytes, context: Context) -> pb.Verdicts:
        arrived = time.monotonic()
        with refusals_counted():
            asked = _model(Checks, decode(pb.Checks, request))
            found = await verify(self._calls, tenant(), asked, arrived=arrived)
        return to_message(pb.Verdicts, Verdicts(results=found).model_dump(mode="json"))

    async def _run(self, call: pb.Call, within_s: float | None) -> pb.Result:
        """Run one call for a client that waits for it."""
        arrived = time.monotonic()
        with refusals_counted():
            model = _model(Call, call)
            wait = await _admitted(self._calls.admit(tenant(), model, arrived=arrived, within_s=within_s))
        with _for_its_client(wait):
            [result] = await wait.all()
        return _result(result)

    def _lookup(self, request: bytes) -> tuple[pb.Lookup, float]:
        lookup = decode(pb.Lookup, request)
        if not 0 <= lookup.wait_s < math.inf:
            raise InvalidCall("wait_s: must be a number of seconds, 0 or more", field="wait_s")
        return lookup, min(lookup.wait_s, self._max_wait_s)


async def _admitted(admission: Coroutine[object, object, Accepted]) -> Accepted:
    """Return what was accepted. If the client leaves meanwhile, what gets accepted all the same is given up."""
    task = asyncio.create_task(admission)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_give_up)
        raise


def _give_up(task: asyncio.Task[Wait] | asyncio.Task[tuple[str, Wait]]) -> None:
    if not task.cancelled() and task.exception() is None:
        accepted = task.result()
        wait = accepted if isinstance(accepted, Wait) else accepted[1]
        wait.abandon()
        wait.close()


@contextlib.contextmanager
def _for_its_client(wait: Wait) -> Iterator[None]:
    """Wait inside; a client that goes away, or reads nothing, abandons it."""
    with wait:
        try:
            yield
        except (asyncio.CancelledError, TooSlow):
            wait.abandon()
            raise


async def _events(batch_id: str, wait: Wait, *, until: float | None = None) -> AsyncIterator[pb.BatchEvent]:
    """Yield each Result as it finishes, then the end: of them all, or of the time given (`until`, loop time)."""
    left = len(wait.keys)
    while left:
        try:
            async with asyncio.timeout_at(until):
                arrived = await wait.some()
        except TimeoutError:
            break
        left -= len(arrived)
        for index, result in arrived:
            yield pb.BatchEvent(result=pb.IndexedResult(index=index, result=_result(result)))
    yield pb.BatchEvent(end=pb.BatchEnd(id=batch_id, count=len(wait.keys), done=not left))


def _model(kind: type[ModelT], message: Message) -> ModelT:
    try:
        return kind.model_validate(to_fields(message))
    except ValidationError as error:
        raise invalid_call(kind, error) from None


def _result(body: bytes) -> pb.Result:
    return to_message(pb.Result, json.loads(body))


def _ticket(ticket_id: str, state: State) -> pb.Ticket:
    return to_message(pb.Ticket, {"id": ticket_id, "state": state})
