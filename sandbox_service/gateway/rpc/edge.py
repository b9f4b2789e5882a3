"""What stands around every RPC: who may ask, how many at once, and how what was raised is told.

An error leaves as the status that the table in errors.py gives it, with `sandbox-error-bin` (a serialized Error) and,
where trying again can help, `retry-after` in its trailing metadata. Metadata is bounded by clients, so the message is
cut and the details are only as many as fit. As over HTTP, an unexpected error is logged by its type and place alone.

There is no check of a Host: no browser speaks this protocol, so no web page can be led here by its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf.message import Message

from sandbox_service import logs
from sandbox_service.errors import BadRequest, Overloaded, SandboxError, ServiceFault, TooSlow
from sandbox_service.gateway.answers import describe
from sandbox_service.gateway.auth import Gatekeeper
from sandbox_service.gateway.edge import public
from sandbox_service.metrics import CALLS_REFUSED
from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.convert import to_message

SERVICE = pb.DESCRIPTOR.services_by_name["Sandbox"]
MOST_RPCS = 16_384
"""At once, of all clients together. Each holds some memory even if it waits only."""
MESSAGE_BYTES = 1024
DETAILS_BYTES = 4096
STALL_S = 60.0
"""A client that reads nothing of its answer for this long is cut off."""

Context: TypeAlias = grpc.aio.ServicerContext
Behaviour = Callable[[Any, Context], Awaitable[Any]]

_tenant: ContextVar[str] = ContextVar("tenant")


class Edge(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Admits RPCs, before their message is read, and wraps their handlers."""

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper
        self._active = 0
        self._log = logs.get_logger("gateway")

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        try:
            if self._active >= MOST_RPCS:
                raise Overloaded("this gateway has as many RPCs as it can hold; use batches or a stream")
            if details.method.startswith(f"/{SERVICE.full_name}/"):
                _tenant.set(self._gatekeeper.tenant(_authorization(details.invocation_metadata)))
        except SandboxError as error:
            CALLS_REFUSED.labels(error.code).inc()
            # SECURITY: as a stream, so that nobody without a key makes us read a message (test_rpc_edge.py).
            return grpc.stream_stream_rpc_method_handler(partial(_refuse, error))
        return await continuation(details)

    def around(self, behaviour: Behaviour) -> Behaviour:
        """Return `behaviour` with what it raises told to the client."""

        # Plain functions: grpc looks at what kind of function it is given.
        async def handle(request: Any, context: Context) -> Any:
            return await self._answer(behaviour, request, context)

        return handle

    async def _answer(self, behaviour: Behaviour, request: Any, context: Context) -> Any:
        self._active += 1
        try:
            return await behaviour(request, context)
        except SandboxError as error:
            refusal = error.with_traceback(None)  # whose frames hold the request, and this one the error: a cycle
        except Exception as error:
            self._log.error("request_failed", method="gRPC", **logs.fault(error))
            refusal = ServiceFault("an error of ours; it was logged. Try again")
        finally:
            self._active -= 1
        return await abort(context, refusal)


def tenant() -> str:
    """Return who asks, inside an RPC of the service. LookupError outside: nothing is served to nobody."""
    return _tenant.get()


async def send(context: Context, message: Message) -> None:
    """Write one message of a stream. TooSlow: the client reads nothing of it."""
    try:
        async with asyncio.timeout(STALL_S):
            await context.write(message)
    except TimeoutError:
        raise TooSlow(f"nothing was read of the answer for {STALL_S:g} s") from None


def error_message(error: SandboxError) -> pb.Error:
    """Return the error as a message; its details as far as they fit into metadata."""
    told = describe(error) | {"retryable": error.retryable}
    details, size = [], 0
    for field, message in error.details:
        size += len(field.encode()) + len(message.encode()) + 8
        if size > DETAILS_BYTES:
            break
        details.append({"field": field, "message": message})
    return to_message(pb.Error, told | {"message": _cut(error.message), "details": details})


async def abort(context: Context, error: SandboxError) -> NoReturn:
    """End the RPC with this error."""
    error = public(error, "gRPC")
    message = error_message(error)
    trailing: list[tuple[str, str | bytes]] = [("sandbox-error-bin", message.SerializeToString())]
    if message.HasField("retry_after_s"):
        trailing.append(("retry-after", f"{message.retry_after_s:g}"))
    await context.abort(grpc.StatusCode[error.grpc], message.message, tuple(trailing))
    raise AssertionError  # abort raises


async def _refuse(error: SandboxError, _requests: object, context: Context) -> None:
    await abort(context, error)


def _authorization(metadata: tuple[tuple[str, str | bytes], ...]) -> bytes:
    sent = [value for name, value in metadata if name == "authorization"]
    if len(sent) > 1:
        raise BadRequest("the metadata `authorization` was sent more than once; send one")
    value = sent[0] if sent else b""
    return value.encode("latin-1", "replace") if isinstance(value, str) else value


def _cut(message: str) -> str:
    return message.encode()[:MESSAGE_BYTES].decode(errors="ignore")
