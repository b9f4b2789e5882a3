"""The gRPC transport: one channel to a gateway. One attempt each, as in `_http.py`.

Needs the extra `grpc`, and is loaded only when a client has a `grpc://` address. gRPC's threads do not survive a fork:
a child process of one that used this transport gets an error instead of silence.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from pydantic import BaseModel

from sandbox_service.client import _wire
from sandbox_service.errors import (
    BadRequest,
    NotFound,
    SandboxError,
    ServiceFault,
    SetupError,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from sandbox_service.models import Batch, Call, Checked, Checks, Result, Ticket, Verdicts
from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.convert import to_fields, to_message
from sandbox_service.proto.sandbox_pb2_grpc import SandboxStub

DEFAULT_PORT = 50051
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # the engine's, which know what may be sent again
    ("grpc.use_local_subchannel_pool", 1),  # each event loop has a connection of its own
    # A gateway that vanished without a word is noticed.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
_BY_STATUS: dict[grpc.StatusCode, type[SandboxError]] = {
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TooLarge,
    grpc.StatusCode.UNAUTHENTICATED: Unauthorized,
    grpc.StatusCode.UNIMPLEMENTED: NotFound,
    grpc.StatusCode.INVALID_ARGUMENT: BadRequest,
}
"""Of RPCs that ended without an error of the service's: it was not reached, or gRPC itself refused the message."""

_MISTAKEN = {
    "http1.x server (HTTP status 400)": "speaks HTTP; use http://",
    "WRONG_VERSION_NUMBER": "does not speak TLS; use grpc://",
    "CERTIFICATE_VERIFY_FAILED": "has a certificate that is not trusted here",
}
"""What gRPC says of an address that no repeat would mend, and what is to be done."""

_used_by: int | None = None
"""The process whose gRPC threads these are."""


class GrpcTransport:
    """One gateway, reached over gRPC; `grpcs://` with TLS."""

    def __init__(self, url: str, *, api_key: str | None) -> None:
        self.url = url
        _refuse_after_fork()
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        target = f"{host}:{parts.port or DEFAULT_PORT}"
        if parts.scheme == "grpcs":
            self._channel = grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._stub: Any = SandboxStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = [("authorization", f"Bearer {api_key}")] if api_key else None

    async def stream(self, calls: Sequence[Call], timeout_s: float) -> AsyncGenerator[Result, None]:
        batch = _message(pb.Batch, Batch.model_construct(calls=list(calls)))
        ended = False
        async for event in self._events(self._stub.RunBatch(batch, timeout=timeout_s, metadata=self._metadata)):
            if event.HasField("result"):
                yield _result(event.result.result)
            ended = event.HasField("end")
        if not ended:
            raise ServiceFault("the stream of results ended without its terminal message")

    async def submit(self, call: Call, timeout_s: float) -> Ticket:
        return _ticket("calls", await self._ask(self._stub.Submit, _message(pb.Call, call), timeout_s))

    async def submit_batch(self, batch: Batch, timeout_s: float) -> Ticket:
        return _ticket("batches", await self._ask(self._stub.SubmitBatch, _message(pb.Batch, batch), timeout_s))

    async def get(self, id: str, wait_s: float, timeout_s: float) -> Result | None:
        state = await self._ask(self._stub.Get, pb.Lookup(id=id, wait_s=wait_s), timeout_s)
        return _result(state.result) if state.HasField("result") else None

    async def get_batch(self, id: str, wait_s: float, timeout_s: float) -> list[Result] | None:
        lookup = pb.Lookup(id=id, wait_s=wait_s)
        results: dict[int, Result] = {}
        async for event in self._events(self._stub.GetBatch(lookup, timeout=timeout_s, metadata=self._metadata)):
            if event.HasField("result"):
                results[event.result.index] = _result(event.result.result)
            elif event.end.done:
                return [results[index] for index in range(event.end.count)]
            else:
                return None
        raise ServiceFault("the stream of results ended without its terminal message")

    async def cancel(self, id: str, timeout_s: float) -> None:
        await self._ask(self._stub.Cancel, pb.CancelRequest(id=id), timeout_s)

    async def cancel_batch(self, id: str, timeout_s: float) -> None:
        await self._ask(self._stub.Cancel, pb.CancelRequest(batch=id), timeout_s)

    async def cancel_label(self, name: str, value: str, timeout_s: float) -> int:
        wish = pb.CancelRequest(label=pb.Label(name=name, value=value))
        answer = await self._ask(self._stub.Cancel, wish, timeout_s)
        return int(answer.count)

    async def verify(self, checks: Checks, timeout_s: float) -> list[Checked]:
        answer = await self._ask(self._stub.Verify, _message(pb.Checks, checks), timeout_s)
        return _wire.in_full(_wire.validate_answer(Verdicts, to_fields(answer)), len(checks.checks))

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, method: Any, request: Any, timeout_s: float) -> Any:
        async with self._told_as_ours():
            return await method(request, timeout=timeout_s, metadata=self._metadata)

    async def _events(self, rpc: Any) -> AsyncIterator[Any]:
        try:
            async with self._told_as_ours():
                async for event in rpc:
                    yield event
        finally:
            rpc.cancel()

    @asynccontextmanager
    async def _told_as_ours(self) -> AsyncIterator[None]:
        """What goes wrong with an RPC inside is a SandboxError."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self._read_error(error) from error

    def _read_error(self, error: grpc.aio.AioRpcError) -> SandboxError:
        for name, value in error.trailing_metadata() or ():
            if name == "sandbox-error-bin":
                try:
                    return _wire.to_error(to_fields(pb.Error.FromString(value)))
                except DecodeError:
                    break
        for said, meaning in _MISTAKEN.items():
            if said in (error.details() or ""):
                where = self.url.partition("://")[2] if meaning.endswith("://") else ""
                return SetupError(f"{self.url} {meaning}{where}")
        kind = _BY_STATUS.get(error.code(), ServiceFault)
        return kind(f"no answer from {self.url}: {error.code().name}: {error.details()}")


def _message(kind: Any, model: BaseModel) -> Any:
    return to_message(kind, model.model_dump(mode="json", exclude_defaults=True))


def _result(message: pb.Result) -> Result:
    return _wire.validate_answer(Result, to_fields(message))


def _ticket(kind: _wire.Kind, message: pb.Ticket) -> Ticket:
    return _wire.validate_answer(Ticket, {"url": f"/v1/{kind}/{message.id}", **to_fields(message)})


def _refuse_after_fork() -> None:
    global _used_by
    if _used_by is None:
        _used_by = os.getpid()
    elif _used_by != os.getpid():
        raise SetupError(
            "gRPC does not survive a fork, and this process is a fork of one that used it: start it by `spawn` or "
            "`forkserver`, or give the client an http:// address"
        )
