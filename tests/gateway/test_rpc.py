"""The methods of gRPC, each as its HTTP route: one function behind both."""

from __future__ import annotations

import asyncio
import math

import grpc
import pytest

from sandbox_service.proto import sandbox_pb2 as pb
from tests.conftest import WaitUntil
from tests.gateway.conftest import ScriptedWorker, StartWorker
from tests.gateway.rpc_client import Rpc, StartRpc, refused, rpc, start_rpc

__all__ = ["rpc", "start_rpc"]


async def events(stream: object) -> tuple[dict[int, pb.Result], pb.BatchEnd]:
    """What a batch answered: Results by index, and the end, which has to be last and alone."""
    results, ends = {}, []
    async for event in stream:  # type: ignore[attr-defined]
        assert not ends
        if event.WhichOneof("event") == "end":
            ends.append(event.end)
        else:
            assert event.result.index not in results
            results[event.result.index] = event.result.result
    [end] = ends
    return results, end


async def test_run_answers_the_result(rpc: Rpc, worker: ScriptedWorker) -> None:
    """As `POST /v1/calls`; every field of the call reaches the worker."""
    call = pb.Call(id="x", code="1", stdin="in", files={"a": b"\0"}, labels={"run": "r"}, limits=pb.Limits(wall_s=2))
    result = await rpc.stub.Run(call)
    assert (result.id, result.status, result.stdout, dict(result.labels)) == ("x", pb.STATUS_OK, "1", {"run": "r"})
    job = worker.jobs["x"]
    assert (job.stdin, job.files, job.limits.wall_s, job.compare) == ("in", {"a": "AA=="}, 2, "strip")


async def test_the_same_call_over_either_transport_runs_once(rpc: Rpc, worker: ScriptedWorker) -> None:
    """One queue, one set of ids; the deadline of an RPC does not make another call of it."""
    await rpc.stub.Run(pb.Call(id="x", code="1"), timeout=20)
    answer = await rpc.gateway.client.post("/v1/calls", json={"id": "x", "code": "1"})
    assert answer.json()["stdout"] == "1"
    assert worker.runs == ["x"]
    async with refused() as refusal:
        await rpc.stub.Run(pb.Call(id="x", code="2"))
    assert (refusal.status, refusal.error.code) == (grpc.StatusCode.ALREADY_EXISTS, "conflict")


async def test_a_batch_streams_its_results(rpc: Rpc, worker: ScriptedWorker) -> None:
    """Each as it finishes: one slow call holds nobody back. Then the end."""
    calls = [pb.Call(code="hold"), *(pb.Call(code=str(index)) for index in range(1, 64))]
    stream = aiter(rpc.stub.RunBatch(pb.Batch(id="b", calls=calls)))
    async with asyncio.timeout(20):
        first = [await anext(stream) for _ in range(63)]
    assert {event.result.index: event.result.result.stdout for event in first} == {n: str(n) for n in range(1, 64)}
    await worker.let_go("b.0")
    results, end = await events(stream)
    assert (list(results), results[0].stdout) == ([0], "hold")
    assert (end.id, end.count, end.done) == ("b", 64, True)


async def test_a_ticket_is_looked_up(rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """Submit answers at once; Get says the state, waits, and has the Result when it is there."""
    ticket = await rpc.stub.Submit(pb.Call(id="x", code="hold"))
    assert (ticket.id, ticket.state) == ("x", pb.STATE_QUEUED)
    await wait_until(lambda: worker.holds("x"))
    state = await rpc.stub.Get(pb.Lookup(id="x"))
    assert (state.ticket.id, state.ticket.state) == ("x", pb.STATE_RUNNING)
    later = asyncio.ensure_future(rpc.stub.Get(pb.Lookup(id="x", wait_s=20)))
    await asyncio.wait([later], timeout=0.1)
    await worker.let_go("x")
    assert (await later).result.stdout == "hold"


async def test_a_batch_is_looked_up(rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """What is there, and an end that says if that is all."""
    ticket = await rpc.stub.SubmitBatch(pb.Batch(id="b", calls=[pb.Call(code="1"), pb.Call(code="hold")]))
    assert ticket.id == "b"
    await wait_until(lambda: worker.holds("b.1"))
    results, end = await events(rpc.stub.GetBatch(pb.Lookup(id="b", wait_s=0.2)))
    assert (list(results), end.done, end.count) == ([0], False, 2)
    await worker.let_go("b.1")
    results, end = await events(rpc.stub.GetBatch(pb.Lookup(id="b", wait_s=20)))
    assert (sorted(results), end.done) == ([0, 1], True)


async def test_cancelling(rpc: Rpc, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """A call, a batch, a label."""
    labelled = pb.Call(id="z", code="hold", labels={"run": "r"})
    await rpc.stub.SubmitBatch(pb.Batch(id="b", calls=[pb.Call(id="x", code="hold"), pb.Call(id="y", code="hold")]))
    await rpc.stub.Submit(labelled)
    await wait_until(lambda: all(worker.holds(name) for name in "xyz"))
    assert (await rpc.stub.Cancel(pb.CancelRequest(id="x"))).WhichOneof("cancelled") == "state"
    assert (await rpc.stub.Get(pb.Lookup(id="x", wait_s=20))).result.status == pb.STATUS_CANCELLED
    assert not worker.holds("x")
    await rpc.stub.Cancel(pb.CancelRequest(batch="b"))
    results, _ = await events(rpc.stub.GetBatch(pb.Lookup(id="b", wait_s=20)))
    assert {result.status for result in results.values()} == {pb.STATUS_CANCELLED}
    assert worker.holds("z")
    assert (await rpc.stub.Cancel(pb.CancelRequest(label=pb.Label(name="run", value="r")))).count == 1
    assert (await rpc.stub.Get(pb.Lookup(id="z", wait_s=20))).result.status == pb.STATUS_CANCELLED
    assert (await rpc.stub.Cancel(pb.CancelRequest(id="z"))).state == pb.STATE_DONE


@pytest.mark.parametrize("wish", [pb.CancelRequest(), pb.CancelRequest(label=pb.Label(value="r"))])
async def test_cancelling_nothing_in_particular_is_refused(rpc: Rpc, wish: pb.CancelRequest) -> None:
    """It says what could be meant."""
    async with refused() as refusal:
        await rpc.stub.Cancel(wish)
    assert (refusal.status, refusal.error.field) == (grpc.StatusCode.INVALID_ARGUMENT, "what")


@pytest.mark.parametrize("method", ["Get", "Cancel"])
async def test_what_is_unknown_is_not_found(rpc: Rpc, method: str) -> None:
    """Ids that never were, and ids that no call can have."""
    for name in ("nope", "no such id!", ""):
        async with refused() as refusal:
            await getattr(rpc.stub, method)({"Get": pb.Lookup, "Cancel": pb.CancelRequest}[method](id=name))
        assert (refusal.status, refusal.error.code) == (grpc.StatusCode.NOT_FOUND, "not_found")


@pytest.mark.parametrize("wait_s", [-1.0, math.inf, math.nan])
async def test_a_time_to_wait_is_a_number_of_seconds(rpc: Rpc, wait_s: float) -> None:
    """Anything else is refused by its name."""
    async with refused() as refusal:
        await rpc.stub.Get(pb.Lookup(id="x", wait_s=wait_s))
    assert refusal.error.field == "wait_s"


async def test_a_long_poll_is_bounded(start_rpc: StartRpc, worker: ScriptedWorker) -> None:
    """By SANDBOX_MAX_WAIT_S, whatever is asked for."""
    rpc = await start_rpc(max_wait_s=0.1)
    await rpc.stub.Submit(pb.Call(id="x", code="hold"))
    async with asyncio.timeout(20):
        assert (await rpc.stub.Get(pb.Lookup(id="x", wait_s=600))).WhichOneof("state") == "ticket"


async def test_the_standard_health_service_says_what_readyz_says(
    rpc: Rpc, start_worker: StartWorker, wait_until: WaitUntil
) -> None:
    """Not ready without a worker, ready with one; for both names; a watcher is told of the change."""
    from grpc_health.v1 import health_pb2
    from grpc_health.v1.health_pb2_grpc import HealthStub

    health = HealthStub(rpc.channel)
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    request = health_pb2.HealthCheckRequest(service="sandbox_service.v1.Sandbox")
    assert (await health.Check(request)).status == not_serving
    watching = health.Watch(request)
    assert (await watching.read()).status == not_serving
    await start_worker()
    assert (await rpc.gateway.client.get("/readyz")).status_code == 200
    async with asyncio.timeout(20):
        assert (await watching.read()).status == serving
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == serving
    watching.cancel()
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await health.Check(health_pb2.HealthCheckRequest(service="other"))
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    assert unknown.value.details() == "no such service here"
