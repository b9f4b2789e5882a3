"""The gRPC server of a gateway: its address, its limits, how it starts and drains.

It serves inside `serving`. `stop` (at SIGTERM) refuses new RPCs at once and lets those under way go on; who ends them
after `drain_s` is `Calls.release`, as for HTTP, so that a client hears where it stands instead of losing a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import grpc

from sandbox_service import logs
from sandbox_service.config import Settings
from sandbox_service.errors import SetupError
from sandbox_service.gateway.auth import Gatekeeper
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.probes import Probes
from sandbox_service.gateway.rpc.edge import SERVICE, Edge
from sandbox_service.gateway.rpc.health import Health
from sandbox_service.gateway.rpc.service import Service
from sandbox_service.gateway.server import MOST_RPC_CONNECTIONS

MOST_STREAMS = 1024
"""RPCs at once on one connection; a client holds further ones back."""
AFTER_RELEASE_S = 5.0
"""How long after `drain_s` the last answers may take to be written."""


class RpcServer:
    """Made in the event loop that it serves in. Raise SetupError if it cannot listen."""

    def __init__(self, settings: Settings, calls: Calls, probes: Probes, gatekeeper: Gatekeeper) -> None:
        assert settings.grpc_port is not None
        edge = Edge(gatekeeper)
        handlers = (_methods(Service(settings, calls), edge), Health(probes).handlers(edge))
        self._server = grpc.aio.server(
            handlers=handlers, interceptors=[edge], options=_options(settings.max_body_mb * 2**20)
        )
        self._drain_s = settings.drain_s
        self._stopped: asyncio.Task[None] | None = None
        self._host = settings.grpc_host
        self._port = self._bind(settings.grpc_host, settings.grpc_port)

    @property
    def address(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        await self._server.start()
        logs.get_logger("gateway").info("grpc_ready", address=self.address)
        try:
            yield
        finally:
            self.stop()
            assert self._stopped is not None
            await self._stopped

    def stop(self) -> None:
        """Begin to stop."""
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._server.stop(self._drain_s + AFTER_RELEASE_S))

    def _bind(self, host: str, port: int) -> int:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            return int(self._server.add_insecure_port(target))
        except RuntimeError as error:
            raise SetupError(
                f"cannot listen on {host} port {port} for gRPC. Set SANDBOX_GRPC_HOST and SANDBOX_GRPC_PORT to others"
            ) from error


def _methods(service: Service, edge: Edge) -> grpc.GenericRpcHandler:
    """Every method of the contract, by its name: `RunBatch` is `run_batch`. Requests stay bytes until they are read."""
    methods = {}
    for method in SERVICE.methods:
        sends = "stream" if method.client_streaming else "unary"
        answers = "stream" if method.server_streaming else "unary"
        kind = getattr(grpc, f"{sends}_{answers}_rpc_method_handler")
        behaviour = getattr(service, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        methods[method.name] = kind(edge.around(behaviour), response_serializer=_serialize)
    return grpc.method_handlers_generic_handler(SERVICE.full_name, methods)


def _serialize(message: object) -> bytes:
    return message.SerializeToString()  # type: ignore[attr-defined, no-any-return]


def _options(max_message: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a second gateway on the same port would take half of the connections
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_allowed_incoming_connections", MOST_RPC_CONNECTIONS),
        ("grpc.max_concurrent_streams", MOST_STREAMS),
        # SECURITY: a compressed message is measured before it is unpacked (test_rpc_edge.py).
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # A client that vanished without a word is noticed, and what it waited for cancelled.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
