"""A gRPC client for a gateway of the tests, and what its errors carry. Import the fixtures that a test names."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.sandbox_pb2_grpc import SandboxStub
from tests.gateway.conftest import Gateway, StartGateway

StartRpc = Callable[..., Awaitable["Rpc"]]


@dataclass
class Rpc:
    gateway: Gateway
    address: str
    channel: Any
    stub: Any


@pytest.fixture
async def start_rpc(start_gateway: StartGateway) -> AsyncIterator[StartRpc]:
    """`await start_rpc(max_queued=5)`: a gateway with gRPC, and a client of it."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options: object) -> Rpc:
            gateway = await start_gateway(**{"grpc_port": 0, **options})
            address = gateway.server.config.app.state.rpc.address  # type: ignore[union-attr]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            return Rpc(gateway, address, channel, SandboxStub(channel))

        yield start


@pytest.fixture
async def rpc(start_rpc: StartRpc) -> Rpc:
    return await start_rpc()


@dataclass
class Refusal:
    status: grpc.StatusCode
    error: pb.Error
    retry_after: str | None


@contextlib.asynccontextmanager
async def refused() -> AsyncIterator[Refusal]:
    """`async with refused() as refusal:` the RPC inside has to fail; afterwards `refusal` says how."""
    refusal = Refusal(grpc.StatusCode.OK, pb.Error(), None)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        yield refusal
    refusal.status = raised.value.code()
    trailing = dict(raised.value.trailing_metadata())
    refusal.error = pb.Error.FromString(trailing.get("sandbox-error-bin", b""))
    refusal.retry_after = trailing.get("retry-after")
    assert refusal.error.message in ("", raised.value.details())
