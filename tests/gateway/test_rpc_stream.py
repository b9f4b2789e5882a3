"""The bidirectional stream: calls go in, Results come out, each on its own, and nothing grows without bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from sandbox_service.gateway.rpc import edge, stream
from sandbox_service.proto import sandbox_pb2 as pb
from tests.conftest import WaitUntil
from tests.gateway.conftest import ScriptedWorker
from tests.gateway.rpc_client import Rpc, refused, rpc, start_rpc

__all__ = ["rpc", "start_rpc"]


def stream_call(tag: int, code: str, **fields: Any) -> pb.StreamCall:
    return pb.StreamCall(tag=tag, call=pb.Call(code=code, **fields))


async def test_results_come_as_they_finish(rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """With the tag of their call; a later call overtakes one that is held; the end counts them."""
    talk = rpc.stub.Stream()
    await talk.write(stream_call(7, "hold", id="x"))
    await wait_until(lambda: worker.holds("x"))
    await talk.write(stream_call(2**63, "2"))
    event = await talk.read()
    assert (event.result.tag, event.result.result.stdout) == (2**63, "2")
    await talk.done_writing()
    await worker.let_go("x")
    event = await talk.read()
    assert (event.result.tag, event.result.result.stdout) == (7, "hold")
    assert (await talk.read()).end.count == 2
    assert await talk.read() is grpc.aio.EOF
    assert await talk.code() is grpc.StatusCode.OK


async def test_a_refused_call_fails_alone(rpc: Rpc, worker: ScriptedWorker) -> None:
    """Invalid, or a conflict: an error under its tag, and the stream goes on."""
    await rpc.stub.Run(pb.Call(id="x", code="1"))
    talk = rpc.stub.Stream()
    for request in (stream_call(1, "1", seed=2**40), stream_call(2, "other", id="x"), stream_call(3, "3")):
        await talk.write(request)
    await talk.done_writing()
    events = {}
    for _ in range(3):
        event = await talk.read()
        inner = getattr(event, event.WhichOneof("event"))
        events[inner.tag] = inner
    assert (events[1].error.code, events[1].error.field) == ("invalid_call", "seed")
    assert events[2].error.code == "conflict"
    assert events[3].result.stdout == "3"
    assert (await talk.read()).end.count == 3


async def test_an_empty_stream_ends(rpc: Rpc) -> None:
    """With its end, and nothing else."""
    talk = rpc.stub.Stream()
    await talk.done_writing()
    assert (await talk.read()).end.count == 0


async def test_bytes_that_are_no_message_end_the_stream(rpc: Rpc) -> None:
    """Without its tag there is nobody to tell."""
    raw = rpc.channel.stream_stream(
        "/sandbox_service.v1.Sandbox/Stream", response_deserializer=pb.StreamEvent.FromString
    )()
    await raw.write(b"\xff")
    async with refused() as refusal:
        await raw.read()
        await raw.code()
        raise await _status(raw)
    assert refusal.error.code == "bad_request"


async def _status(call: Any) -> Exception:
    """What the call ended with, as the exception that a unary one would raise."""
    return grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


async def test_calls_in_flight_are_bounded(
    rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No further call is admitted while as many as allowed are not answered; each answer makes room for one."""
    monkeypatch.setattr(stream, "IN_FLIGHT", 4)
    talk = rpc.stub.Stream()
    for index in range(10):
        await talk.write(stream_call(index, "hold", id=f"c{index}"))
    await wait_until(lambda: len(worker.runs) == 4)
    await asyncio.sleep(0.3)  # nothing tells that nothing more happens
    assert sorted(worker.runs) == ["c0", "c1", "c2", "c3"]
    await worker.let_go("c2")
    assert (await talk.read()).result.tag == 2
    await wait_until(lambda: len(worker.runs) == 5)
    assert rpc.gateway.calls.in_flight == 4
    for index in (0, 1, 3, 4, 5, 6, 7, 8, 9):
        await wait_until(lambda name=f"c{index}": worker.holds(name))
        await worker.let_go(f"c{index}")
    await talk.done_writing()
    seen = {(await talk.read()).result.tag for _ in range(9)}
    assert seen == set(range(10)) - {2}


async def test_a_client_that_reads_nothing_is_cut_off(
    rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flow control holds its Results back, so it holds their memory: not for ever. What it waited for is cancelled."""
    monkeypatch.setattr(edge, "STALL_S", 0.3)
    talk = rpc.stub.Stream()
    await talk.write(stream_call(999, "hold", id="held"))
    await wait_until(lambda: worker.holds("held"))
    for index in range(100):  # the scripted worker prints the code: 20 MB of Results
        await talk.write(stream_call(index, "#" * 200_000, id=f"c{index}"))
    await wait_until(lambda: rpc.gateway.calls.in_flight == 0, timeout_s=20)
    assert await _drained(talk) is grpc.StatusCode.DEADLINE_EXCEEDED
    await wait_until(lambda: not worker.holds("held"), timeout_s=20)


async def _drained(talk: Any) -> grpc.StatusCode:
    """Read what had been sent, up to the end; return the status."""
    try:
        while await talk.read() is not grpc.aio.EOF:
            pass
    except grpc.aio.AioRpcError:
        pass
    return await talk.code()  # type: ignore[no-any-return]


async def test_many_calls_through_one_stream(rpc: Rpc, worker: ScriptedWorker) -> None:
    """More than may be in flight, sent as fast as flow control lets a client; each is answered once."""
    count = 3 * stream.IN_FLIGHT

    async def calls() -> AsyncIterator[pb.StreamCall]:
        for index in range(count):
            yield stream_call(index, str(index))

    tags = []
    async for event in rpc.stub.Stream(calls()):
        if event.WhichOneof("event") == "end":
            assert event.end.count == count
        else:
            assert event.result.result.stdout == str(event.result.tag)
            tags.append(event.result.tag)
    assert sorted(tags) == list(range(count))
    assert rpc.gateway.calls.in_flight == 0
