"""The gRPC side of a client process: one channel to each gateway, and all RPCs multiplexed on it.

Loaded in client processes alone: gRPC's threads do not survive a fork.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from functools import cache
from typing import Any

import grpc

from loadtest.load.drive import Refused
from loadtest.load.traffic import Shot
from sandbox_service.models import Result, Status
from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.convert import to_fields, to_message
from sandbox_service.proto.sandbox_pb2_grpc import SandboxStub

_BLANK = Result(id="", status=Status.OK).model_dump(mode="json")
"""What a message leaves out because it is zero or empty."""
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Channel:
    """Calls as they are sent over HTTP go in, Results as they come over HTTP come out; Refused if there are none."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self._stub: Any = SandboxStub(self._channel)  # type: ignore[no-untyped-call]

    async def run(self, shot: Shot) -> dict[str, Any]:
        try:
            return _result(await self._stub.Run(_call(shot.body), wait_for_ready=True))
        except grpc.aio.AioRpcError as error:
            raise Refused(f"{error.code().name}: {error.details()}") from error

    async def run_batch(self, shots: Sequence[Shot]) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        """Yield each Result with its index, as it comes."""
        batch = pb.Batch(calls=[_call(shot.body) for shot in shots])
        try:
            async for event in self._stub.RunBatch(batch, wait_for_ready=True):
                if event.HasField("end"):
                    return
                yield event.result.index, _result(event.result.result)
        except grpc.aio.AioRpcError as error:
            raise Refused(f"{error.code().name}: {error.details()}") from error
        raise Refused("the stream of Results ended early")

    async def close(self) -> None:
        await self._channel.close()


@cache
def _call(body: bytes) -> pb.Call:
    return to_message(pb.Call, json.loads(body))


def _result(message: pb.Result) -> dict[str, Any]:
    fields = to_fields(message)
    return {**_BLANK, **fields, "timings": {**_BLANK["timings"], **fields.get("timings", {})}}
