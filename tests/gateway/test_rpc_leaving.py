"""RPCs that end before their calls: cancelled, past their deadline, or because the gateway stops."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from sandbox_service.gateway import waiting
from sandbox_service.proto import sandbox_pb2 as pb
from tests.conftest import WaitUntil
from tests.gateway.conftest import Gateway, ScriptedWorker
from tests.gateway.rpc_client import Rpc, StartRpc, refused, rpc, start_rpc

__all__ = ["rpc", "start_rpc"]


async def status(gateway: Gateway, call_id: str) -> str:
    """Of a call that ends, or has ended."""
    return (await gateway.client.get(f"/v1/calls/{call_id}?wait_s=10")).json()["status"]


async def test_a_cancelled_rpc_cancels_its_call(rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """At once, since nobody else can know of it."""
    run = rpc.stub.Run(pb.Call(code="hold"))
    await wait_until(lambda: worker.runs)
    [call_id] = worker.runs
    run.cancel()
    await wait_until(lambda: not worker.holds(call_id))  # to ask for it meanwhile would be to want it
    assert await status(rpc.gateway, call_id) == "cancelled"
    assert rpc.gateway.calls.in_flight == 0


async def test_a_client_that_vanishes_cancels_its_call(
    start_rpc: StartRpc, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """The connection is closed, and nothing else is said."""
    rpc = await start_rpc()
    run = asyncio.ensure_future(rpc.stub.Run(pb.Call(code="hold")))
    await wait_until(lambda: worker.runs)
    [call_id] = worker.runs
    await rpc.channel.close()
    await asyncio.wait([run])
    await wait_until(lambda: not worker.holds(call_id))
    assert await status(rpc.gateway, call_id) == "cancelled"


async def test_a_named_call_waits_for_its_client_to_return(
    rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that lost its connection comes back with the same id, over either transport."""
    monkeypatch.setattr(waiting, "RETURN_S", 0.4)
    run = rpc.stub.Run(pb.Call(id="x", code="hold"))
    await wait_until(lambda: worker.holds("x"))
    run.cancel()
    again = asyncio.create_task(rpc.gateway.client.post("/v1/calls", json={"id": "x", "code": "hold"}))
    await asyncio.wait([again], timeout=1.0)
    await worker.let_go("x")
    assert (await again).json()["status"] == "ok"
    assert worker.runs == ["x"]


@pytest.mark.parametrize("method", ["RunBatch", "Stream"])
async def test_a_stream_that_is_left_cancels_what_is_not_done(
    rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil, method: str
) -> None:
    """What is done stays done."""
    codes = ["1", "hold", "hold"]
    if method == "RunBatch":
        talk: Any = rpc.stub.RunBatch(pb.Batch(calls=[pb.Call(code=code) for code in codes]))
    else:
        talk = rpc.stub.Stream()
        for code in codes:
            await talk.write(pb.StreamCall(call=pb.Call(code=code)))
    await wait_until(lambda: len(worker.runs) == 3)
    await talk.read()
    talk.cancel()
    await wait_until(lambda: not any(worker.holds(each) for each in worker.runs))
    assert sorted([await status(rpc.gateway, each) for each in worker.runs]) == ["cancelled", "cancelled", "ok"]
    assert rpc.gateway.calls.in_flight == 0


async def test_an_rpc_that_is_cancelled_while_its_call_is_admitted_leaves_nothing_behind(
    rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue may have taken it already: it is cancelled as soon as that is known."""
    entered, go_on, left = asyncio.Event(), asyncio.Event(), asyncio.Event()
    admit = rpc.gateway.calls.admit

    async def slowly(*arguments: Any, **options: Any) -> Any:
        entered.set()
        await go_on.wait()
        wait = await admit(*arguments, **options)
        left.set()
        return wait

    monkeypatch.setattr(rpc.gateway.calls, "admit", slowly)
    run = rpc.stub.Run(pb.Call(code="hold"))
    answer = asyncio.ensure_future(run)
    await asyncio.wait_for(entered.wait(), 10)
    answer.cancel()
    await asyncio.sleep(0.2)  # the server hears of it; nothing tells us when
    go_on.set()
    await asyncio.wait_for(left.wait(), 10)

    async def is_gone() -> bool:
        """Neither queued nor running: the worker may have had it before it was cancelled, or not."""
        queued = (await rpc.gateway.client.get("/status")).json()["queue"]
        return not queued and not any(map(worker.holds, worker.runs))

    await wait_until(is_gone)
    assert [await status(rpc.gateway, each) for each in worker.runs] in ([], ["cancelled"])
    assert rpc.gateway.calls.in_flight == 0


async def test_a_deadline_bounds_the_call(rpc: Rpc) -> None:
    """No worker takes it: it never will be started, and says so, long before its own deadline of ten minutes."""
    async with refused() as refusal:
        await rpc.stub.Run(pb.Call(id="x", code="1"), timeout=0.5)
    assert refusal.status is grpc.StatusCode.DEADLINE_EXCEEDED
    state = await rpc.stub.Get(pb.Lookup(id="x", wait_s=20))
    assert state.result.status == pb.STATUS_EXPIRED


async def test_a_ticket_outlives_the_rpc_that_asked_for_it(rpc: Rpc, worker: ScriptedWorker) -> None:
    """Its deadline is that of handing it in."""
    await rpc.stub.Submit(pb.Call(id="x", code="hold"), timeout=5)
    assert (await rpc.stub.Get(pb.Lookup(id="x", wait_s=0.3))).ticket.id == "x"


async def test_stopping_lets_what_waits_finish(
    start_rpc: StartRpc, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """New RPCs are refused as soon as it stops; the one under way gets its Result."""
    rpc = await start_rpc(drain_s=20)
    run = asyncio.ensure_future(rpc.stub.Run(pb.Call(id="x", code="hold")))
    await wait_until(lambda: worker.holds("x"))
    rpc.gateway.server.should_exit = True

    async def refuses() -> bool:
        async with grpc.aio.insecure_channel(rpc.address) as channel:
            try:
                await channel.unary_unary("/sandbox_service.v1.Sandbox/Get")(b"", timeout=1)
            except grpc.aio.AioRpcError as error:
                return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        return False

    await wait_until(refuses)
    await worker.let_go("x")
    async with asyncio.timeout(10):
        assert (await run).status == pb.STATUS_OK


async def test_stopping_tells_who_still_waits_where_to_ask(
    start_rpc: StartRpc, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """After `drain_s`: the call goes on, and another gateway answers for it."""
    rpc, other = await start_rpc(drain_s=0), await start_rpc()
    talk = rpc.stub.Stream()
    await talk.write(pb.StreamCall(tag=5, call=pb.Call(id="s", code="hold")))
    run = asyncio.ensure_future(rpc.stub.Run(pb.Call(id="x", code="hold")))
    await wait_until(lambda: worker.holds("x") and worker.holds("s"))
    rpc.gateway.server.should_exit = True
    async with asyncio.timeout(10), refused() as refusal:
        await run
    assert (refusal.status, refusal.error.code) == (grpc.StatusCode.UNAVAILABLE, "unavailable")
    assert "call x goes on" in refusal.error.message
    assert (await talk.read()).error.tag == 5
    for call_id in "xs":
        await worker.let_go(call_id)
        assert (await other.stub.Get(pb.Lookup(id=call_id, wait_s=20))).result.status == pb.STATUS_OK
