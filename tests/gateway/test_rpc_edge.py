"""What stands around every RPC: keys, errors, limits, the address."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from sandbox_service.config import Settings
from sandbox_service.errors import WIRE_ERRORS, InvalidCall, Overloaded, SetupError
from sandbox_service.gateway.auth import Gatekeeper
from sandbox_service.gateway.rpc import edge
from sandbox_service.gateway.rpc.edge import DETAILS_BYTES, MESSAGE_BYTES, error_message
from sandbox_service.proto import sandbox_pb2 as pb
from sandbox_service.proto.sandbox_pb2_grpc import SandboxStub
from tests.conftest import WaitUntil
from tests.gateway.conftest import ScriptedWorker
from tests.gateway.rpc_client import Rpc, StartRpc, refused, rpc, start_rpc
from tests.gateway.test_auth import keys, line

__all__ = ["keys", "rpc", "start_rpc"]
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["Sandbox"].methods]


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


async def ask(stub: Any, method: str, **options: Any) -> None:
    """Call a method with an empty message, and read its answer to the end."""
    request = {"RunBatch": pb.Batch, "SubmitBatch": pb.Batch, "Cancel": pb.CancelRequest}.get(method, pb.Call)()
    if method in ("Get", "GetBatch"):
        request = pb.Lookup()
    call = getattr(stub, method)(iter([pb.StreamCall()]) if method == "Stream" else request, **options)
    if method in ("RunBatch", "Stream", "GetBatch"):
        async for _ in call:
            pass
    else:
        await call


@pytest.mark.parametrize("metadata", [(), bearer("nope"), (("authorization", "key-a"),), (("x-key", "key-a"),)])
async def test_without_a_known_key_nothing_is_served(
    start_rpc: StartRpc, keys: Path, metadata: tuple[tuple[str, str], ...]
) -> None:
    """Every method is guarded, whatever kind it is."""
    rpc = await start_rpc(api_keys_file=keys)
    for method in METHODS:
        async with refused() as refusal:
            await ask(rpc.stub, method, metadata=metadata)
        assert (refusal.status, refusal.error.code) == (grpc.StatusCode.UNAUTHENTICATED, "unauthorized"), method


async def test_health_needs_no_key(start_rpc: StartRpc, keys: Path) -> None:
    """Orchestrators have none; it tells nothing of calls."""
    from grpc_health.v1.health_pb2 import HealthCheckRequest
    from grpc_health.v1.health_pb2_grpc import HealthStub

    rpc = await start_rpc(api_keys_file=keys)
    assert (await HealthStub(rpc.channel).Check(HealthCheckRequest())).status


async def test_a_key_is_refused_before_its_message_is_read(start_rpc: StartRpc, keys: Path) -> None:
    """A stranger cannot make the gateway hold megabytes: the answer comes although the message never does."""
    rpc = await start_rpc(api_keys_file=keys)
    unfinished = rpc.channel.stream_unary("/sandbox_service.v1.Sandbox/Run", pb.Call.SerializeToString)()
    async with asyncio.timeout(10), refused() as refusal:
        await unfinished
    assert refusal.status is grpc.StatusCode.UNAUTHENTICATED


async def test_tenants_do_not_see_each_other(start_rpc: StartRpc, keys: Path, worker: ScriptedWorker) -> None:
    """Each key has ids of its own, the same as over HTTP."""
    rpc = await start_rpc(api_keys_file=keys)
    assert (await rpc.stub.Run(pb.Call(id="x", code="1"), metadata=bearer("key-a"))).stdout == "1"
    async with refused() as refusal:
        await rpc.stub.Get(pb.Lookup(id="x"), metadata=bearer("key-b"))
    assert refusal.status is grpc.StatusCode.NOT_FOUND
    assert (await rpc.stub.Run(pb.Call(id="x", code="2"), metadata=bearer("key-b"))).stdout == "2"
    answer = await rpc.gateway.client.get("/v1/calls/x", headers={"Authorization": "Bearer key-a"})
    assert answer.json()["stdout"] == "1"


async def test_concurrent_rpcs_keep_their_tenants(start_rpc: StartRpc, keys: Path, worker: ScriptedWorker) -> None:
    """On one connection, interleaved."""
    rpc = await start_rpc(api_keys_file=keys)
    runs = [
        rpc.stub.Run(pb.Call(id=f"i{n}", code=key), metadata=bearer(key))
        for n in range(50)
        for key in ("key-a", "key-b")
    ]
    results = await asyncio.gather(*runs)
    assert [result.stdout for result in results] == ["key-a", "key-b"] * 50


async def test_two_keys_are_none(start_rpc: StartRpc, keys: Path) -> None:
    """Of two, a proxy might heed one and we the other."""
    rpc = await start_rpc(api_keys_file=keys)
    async with refused() as refusal:
        await rpc.stub.Run(pb.Call(code="1"), metadata=bearer("nope") + bearer("key-a"))
    assert (refusal.status, refusal.error.code) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_request")


async def test_reloaded_keys_are_in_force(start_rpc: StartRpc, keys: Path) -> None:
    """SIGHUP is for both transports: one gatekeeper."""
    rpc = await start_rpc(api_keys_file=keys)
    keys.write_text(line("alice", "key-c"))
    rpc.gateway.server.config.app.state.gatekeeper.reload()  # type: ignore[union-attr]
    for key, status in (("key-a", grpc.StatusCode.UNAUTHENTICATED), ("key-c", grpc.StatusCode.NOT_FOUND)):
        async with refused() as refusal:
            await rpc.stub.Get(pb.Lookup(id="x"), metadata=bearer(key))
        assert refusal.status is status


def test_every_error_has_its_grpc_status() -> None:
    """The one table of errors.py names statuses that exist, and what can be tried again is told so."""
    for kind in WIRE_ERRORS:
        assert grpc.StatusCode[kind.grpc] is not grpc.StatusCode.OK
        message = error_message(kind("why", retry_after_s=1.5, field="code"))
        assert (message.code, message.message, message.field) == (kind.code, "why", "code")
        assert (message.retryable, message.retry_after_s) == (kind.retryable, 1.5)


async def test_an_invalid_call_names_its_field(rpc: Rpc) -> None:
    """In a batch with its place; the same words as over HTTP."""
    for call in (pb.Call(), pb.Call(code="1", limits=pb.Limits(wall_s=-1)), pb.Call(code="1", session="s")):
        async with refused() as refusal:
            await rpc.stub.RunBatch(pb.Batch(calls=[pb.Call(code="1"), call])).read()
        body: dict[str, Any] = {"code": "1"}
        if call.HasField("limits"):
            body["limits"] = {"wall_s": -1}
        if call.HasField("session"):
            body["session"] = "s"
        bodies = {"calls": [{"code": "1"}, body if call.HasField("code") else {}]}
        error = (await rpc.gateway.client.post("/v1/batches", json=bodies)).json()["error"]
        assert refusal.status is grpc.StatusCode.INVALID_ARGUMENT
        assert (refusal.error.code, refusal.error.field) == (error["code"], error["field"])
        assert refusal.error.message == error["message"]


async def test_bytes_that_are_no_message_are_refused(rpc: Rpc) -> None:
    """The client's fault, never a fault of ours that would be tried again."""
    raw = rpc.channel.unary_unary("/sandbox_service.v1.Sandbox/Run", response_deserializer=pb.Result.FromString)
    async with refused() as refusal:
        await raw(b"\xff\xff")
    assert (refusal.status, refusal.error.code) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_request")


async def test_overload_says_when_to_come_back(start_rpc: StartRpc) -> None:
    """Refused before acceptance; the wait is in `retry-after` and in the error."""
    rpc = await start_rpc(max_queued=1)
    await rpc.stub.Submit(pb.Call(id="first", code="1"))
    async with refused() as refusal:
        await rpc.stub.Run(pb.Call(id="second", code="1"))
    assert (refusal.status, refusal.error.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")
    assert refusal.error.retryable
    assert refusal.retry_after is not None
    assert float(refusal.retry_after) == refusal.error.retry_after_s > 0
    async with refused() as refusal:
        await rpc.stub.Get(pb.Lookup(id="second"))
    assert refusal.status is grpc.StatusCode.NOT_FOUND


async def test_rpcs_at_once_are_bounded(
    rpc: Rpc, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    """One too many is told to come back; when one has ended, there is room again."""
    monkeypatch.setattr(edge, "MOST_RPCS", 2)
    held = [asyncio.ensure_future(rpc.stub.Run(pb.Call(id=name, code="hold"))) for name in "xy"]
    await wait_until(lambda: worker.holds("x") and worker.holds("y"))
    async with refused() as refusal:
        await rpc.stub.Run(pb.Call(code="1"))
    assert (refusal.status, refusal.error.code) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "overloaded")
    assert refusal.retry_after
    await worker.let_go("x")
    await held[0]
    assert (await rpc.stub.Run(pb.Call(code="1"))).stdout == "1"
    await worker.let_go("y")
    await held[1]


async def test_a_large_message_is_refused(start_rpc: StartRpc, worker: ScriptedWorker) -> None:
    """By SANDBOX_MAX_BODY_MB, as over HTTP; a large Result passes."""
    rpc = await start_rpc(max_body_mb=1)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await rpc.stub.Run(pb.Call(code="1", stdin="x" * 2**20))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (await rpc.stub.Run(pb.Call(code="1", stdin="x" * (2**20 - 1000)))).stdout == "1"


async def test_a_compressed_message_is_refused(start_rpc: StartRpc) -> None:
    """A megabyte of zeros is a kilobyte on the wire: it would be measured before it is unpacked."""
    rpc = await start_rpc(max_body_mb=1)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await rpc.stub.Run(pb.Call(code="1", stdin="0" * 2**22), compression=grpc.Compression.Gzip)
    assert raised.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)


def test_an_error_fits_into_metadata() -> None:
    """Clients take 8 KiB of it: a batch can be wrong in many and long ways."""
    details = [(f"calls.{n}.code", "é" * 500) for n in range(20)]
    message = error_message(InvalidCall("é" * 2000, field="calls.0.code", details=details))
    assert 0 < len(message.details) < 20
    assert len(message.message.encode()) <= MESSAGE_BYTES
    assert message.ByteSize() < MESSAGE_BYTES + DETAILS_BYTES + 512


async def test_a_long_error_arrives(rpc: Rpc) -> None:
    """Through a real client with its own bounds."""
    calls = [pb.Call(code="1", image="ü" * 300) for _ in range(100)]
    async with refused() as refusal:
        await rpc.stub.RunBatch(pb.Batch(calls=calls)).read()
    assert (refusal.error.code, refusal.error.field) == ("invalid_call", "calls.0.image")


async def test_a_fault_of_ours_says_nothing_of_our_insides(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unexpected: INTERNAL and a plain sentence, no traceback and no text of the exception."""

    async def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(rpc.gateway.calls, "admit", broken)
    async with refused() as refusal:
        await rpc.stub.Run(pb.Call(code="1"))
    assert (refusal.status, refusal.error.code) == (grpc.StatusCode.INTERNAL, "service_fault")
    assert refusal.error.retryable
    assert "secret" not in refusal.error.message


async def test_a_refusal_is_counted(rpc: Rpc) -> None:
    """In the metric that HTTP counts in."""
    before = await rpc.gateway.client.get("/metrics")
    async with refused():
        await rpc.stub.Run(pb.Call())
    after = await rpc.gateway.client.get("/metrics")

    def count(text: str) -> float:
        name = f'sandbox_calls_refused_total{{code="{InvalidCall.code}"}} '
        return sum(float(each.removeprefix(name)) for each in text.splitlines() if each.startswith(name))

    assert count(after.text) == count(before.text) + 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3"])
def test_no_other_address_without_keys(host: str, keys: Path) -> None:
    """As for HTTP; where gRPC is not offered its address does not matter."""
    with pytest.raises(SetupError, match="SANDBOX_GRPC_HOST"):
        Gatekeeper(Settings(grpc_host=host, grpc_port=0))
    Gatekeeper(Settings(grpc_host=host, grpc_port=0, api_keys_file=keys))
    Gatekeeper(Settings(grpc_host=host))


async def test_a_taken_port_is_told(start_rpc: StartRpc) -> None:
    """Another gRPC server's, too: they could share one, and each would get half of the connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SetupError, match="SANDBOX_GRPC_PORT"):
            await start_rpc(grpc_port=taken.getsockname()[1])
    first = await start_rpc()
    with pytest.raises(SetupError, match="SANDBOX_GRPC_PORT"):
        await start_rpc(grpc_port=int(first.address.rpartition(":")[2]))


async def test_it_listens_on_ipv6(start_rpc: StartRpc, worker: ScriptedWorker) -> None:
    """Its address can be dialled as it is told."""
    rpc = await start_rpc(grpc_host="::1")
    assert rpc.address.startswith("[::1]:")
    async with grpc.aio.insecure_channel(rpc.address) as channel:
        assert (await SandboxStub(channel).Run(pb.Call(code="1"))).stdout == "1"


WITHOUT_GRPC = """
import sys
sys.modules["grpc"] = None
from sandbox_service.config import Settings
from sandbox_service.errors import SetupError
from sandbox_service.gateway.app import create_app
assert create_app(Settings(), None).state.rpc is None
try:
    create_app(Settings(grpc_port=0), None)
except SetupError as error:
    print(error)
"""


def test_without_the_packages_the_gateway_serves_http_alone() -> None:
    """It says what to install only if gRPC was asked for."""
    told = subprocess.run([sys.executable, "-c", WITHOUT_GRPC], capture_output=True, text=True, check=True).stdout
    assert "SANDBOX_GRPC_PORT" in told
    assert "pip install '.[server,grpc]'" in told


def test_overloaded_has_a_time_to_come_back() -> None:
    """Also where the error itself does not know better."""
    assert error_message(Overloaded("full")).retry_after_s > 0
