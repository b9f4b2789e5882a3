"""The standard health service (grpc.health.v1), which says what /readyz says. Needs no key, and tells nothing else."""

from __future__ import annotations

import asyncio
import time

import grpc
from grpc_health.v1 import health_pb2 as pb

from sandbox_service.errors import NotFound
from sandbox_service.gateway.probes import Probes
from sandbox_service.gateway.rpc.edge import SERVICE, Context, Edge, send

WATCH_S = 1.0
"""How often the answer is looked at for those who watch; and how long one look is good for all who ask."""
_NAMES = ("", SERVICE.full_name)
_Status = pb.HealthCheckResponse


class Health:
    def __init__(self, probes: Probes) -> None:
        self._probes = probes
        self._status: int = _Status.NOT_SERVING
        self._until = 0.0
        self._look = asyncio.Lock()

    def handlers(self, edge: Edge) -> grpc.GenericRpcHandler:
        codec = {
            "request_deserializer": pb.HealthCheckRequest.FromString,
            "response_serializer": pb.HealthCheckResponse.SerializeToString,
        }
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(edge.around(self._check), **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(edge.around(self._watch), **codec),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    async def _check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        if request.service not in _NAMES:
            raise NotFound("no such service here")
        return _Status(status=await self._current())

    async def _watch(self, request: pb.HealthCheckRequest, context: Context) -> None:
        """Tell the status now and each time it changes, until the client goes away."""
        told = None
        while True:
            known = request.service in _NAMES
            status = await self._current() if known else _Status.SERVICE_UNKNOWN
            if status != told:
                await send(context, _Status(status=status))
                told = status
            await asyncio.sleep(WATCH_S)

    async def _current(self) -> int:
        async with self._look:
            if time.monotonic() >= self._until:
                reasons, _ = await self._probes.reasons()
                self._status = _Status.NOT_SERVING if reasons else _Status.SERVING
                self._until = time.monotonic() + WATCH_S
            return self._status
