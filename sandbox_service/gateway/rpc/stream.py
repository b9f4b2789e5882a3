"""The bidirectional stream: calls come, their Results go, each on its own.

Invariants: at most IN_FLIGHT calls of a stream are read and not yet answered. A place is free again when its answer
was written, and until then no further call is read, so that a client that sends faster than calls finish, or reads
slower, is held back by HTTP/2's flow control, and what one stream holds in memory is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from sandbox_service import logs
from sandbox_service.errors import SandboxError, ServiceFault
from sandbox_service.gateway.edge import public
from sandbox_service.gateway.rpc.edge import Context, error_message, send
from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.convert import decode

IN_FLIGHT = 256
"""Said in sandbox.proto too."""

Run = Callable[[pb.Call, float | None], Awaitable[pb.Result]]


async def answer_stream(requests: AsyncIterator[bytes], context: Context, run: Run) -> None:
    """Answer every call of `requests`, then say how many there were. Raise what ends the stream as a whole."""
    room = asyncio.Semaphore(IN_FLIGHT)
    events: asyncio.Queue[pb.StreamEvent | SandboxError | None] = asyncio.Queue()

    async def answer(request: pb.StreamCall) -> None:
        events.put_nowait(await _event(request, run, context.time_remaining()))

    async def read() -> None:
        async with asyncio.TaskGroup() as group:
            async for body in requests:
                try:
                    request = decode(pb.StreamCall, body)
                except SandboxError as error:  # without its tag there is nobody to tell but the stream
                    events.put_nowait(error)
                    return
                await room.acquire()
                group.create_task(answer(request))
        events.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        count = 0
        while (event := await events.get()) is not None:
            if isinstance(event, SandboxError):
                raise event
            await send(context, event)
            room.release()
            count += 1
        await send(context, pb.StreamEvent(end=pb.StreamEnd(count=count)))
    finally:
        reader.cancel()
        await asyncio.wait([reader])


async def _event(request: pb.StreamCall, run: Run, within_s: float | None) -> pb.StreamEvent:
    try:
        result = await run(request.call, within_s)
        return pb.StreamEvent(result=pb.TaggedResult(tag=request.tag, result=result))
    except SandboxError as error:
        refusal = public(error, "gRPC")
    except Exception as error:  # the boundary of one call: the others go on
        logs.get_logger("gateway").error("request_failed", method="gRPC", **logs.fault(error))
        refusal = ServiceFault("an error of ours; it was logged. Try again")
    return pb.StreamEvent(error=pb.TaggedError(tag=request.tag, error=error_message(refusal)))
