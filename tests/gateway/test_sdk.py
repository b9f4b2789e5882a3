"""The client SDK against a gateway, over each of its transports."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sandbox_service.client import AsyncSandboxClient, Call, Result
from sandbox_service.errors import Conflict, InvalidCall, NotFound, Overloaded, SetupError, Unauthorized, Unavailable
from sandbox_service.gateway import waiting
from tests.conftest import WaitUntil
from tests.gateway.conftest import Gateway, ScriptedWorker, StartGateway, StartWorker

LONG_S = 20.0
"""Far more than anything here takes."""


@dataclass
class Service:
    gateway: Gateway
    url: str


Start = Callable[..., Awaitable[Service]]


@pytest.fixture(params=["http", "grpc"])
def start(request: pytest.FixtureRequest, start_gateway: StartGateway) -> Start:
    async def start(**options: object) -> Service:
        if request.param == "http":
            gateway = await start_gateway(**options)
            return Service(gateway, gateway.url)
        gateway = await start_gateway(grpc_port=0, **options)
        return Service(gateway, f"grpc://{gateway.server.config.app.state.rpc.address}")  # type: ignore[union-attr]

    return start


@pytest.fixture
async def service(start: Start) -> Service:
    return await start()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[AsyncSandboxClient]:
    async with AsyncSandboxClient(service.url) as client:
        yield client


async def test_each_call_gets_its_own_result(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """300 at once, with labels, in the caller's order; the numbers for a training step add up."""
    calls = [Call(code=str(n), labels={"n": str(n)}) for n in range(300)]
    results = await client.run_batch(calls)
    assert [(each.stdout, each.labels["n"]) for each in results] == [(str(n), str(n)) for n in range(300)]
    assert len(worker.runs) == 300
    stats = client.stats()
    assert (stats.calls, stats.statuses, stats.errors) == (300, {"ok": 300}, {})
    assert stats.p50_s is not None
    assert stats.p99_s is not None
    assert stats.p50_s <= stats.p99_s


async def test_a_call_arrives_as_it_was_given(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """Every kind of field survives the way: numbers, closed lists, files, nested limits."""
    call = Call(
        id="mine",
        code="1",
        stdin="é\n",
        args=["a", ""],
        env={"K": "v"},
        files={"d/x.bin": "AAEC"},
        fetch=["y"],
        limits={"wall_s": 2.5, "memory_mb": 100},
        seed=7,
        show_last_value=True,
        network="loopback",
        labels={"run": "r"},
    )
    await client.run(call)
    job = worker.jobs["mine"]
    assert (job.stdin, job.args, job.env, job.files) == (call.stdin, call.args, call.env, call.files)
    assert (job.fetch, job.seed, job.show_last_value, job.network) == (["y"], 7, True, "loopback")
    assert (job.limits.wall_s, job.limits.memory_mb) == (2.5, 100)


async def test_one_slow_call_holds_nobody_back(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """64 calls that travel together: 63 are answered while the slow one goes on."""
    slow = asyncio.ensure_future(client.run(Call(id="slow", code="hold")))
    others = await asyncio.wait_for(asyncio.gather(*(client.run(str(n)) for n in range(63))), LONG_S)
    assert [each.stdout for each in others] == [str(n) for n in range(63)]
    assert not slow.done()
    await worker.let_go("slow")
    assert (await slow).status == "ok"


async def test_map_yields_as_they_finish(
    client: AsyncSandboxClient, worker: ScriptedWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    """The held call comes last, whatever its place; the bar's last line has the count."""
    came: list[int] = []
    async for index, _ in client.map([Call(id="h", code="hold"), "1", "2"], progress=True):
        came.append(index)
        if len(came) == 2:
            await worker.let_go("h")
    assert sorted(came[:2]) == [1, 2]
    assert came[2] == 0
    assert "100% |########################| 3/3" in capsys.readouterr().err.splitlines()[-1]


async def test_map_reads_only_as_far_as_it_has_room(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """An endless source is read as results are taken, and what is under way is cancelled when the caller leaves."""
    read: list[int] = []

    def source() -> AsyncIterator[str]:
        for n in range(10**9):
            read.append(n)
            yield str(n)

    results = client.map(source(), in_flight=8)  # type: ignore[arg-type]
    async with contextlib.aclosing(results):  # type: ignore[type-var]
        async for index, result in results:
            assert result.stdout == str(index)
            if len(read) > 50:
                break
    assert len(read) < 70
    assert client.stats().calls < 70


async def test_tickets_of_a_call(client: AsyncSandboxClient, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """Handed in, looked up, awaited; TimeoutError while it goes on."""
    ticket = await client.submit(Call(id="t", code="hold"))
    assert ticket.id == "t"
    await wait_until(lambda: worker.holds("t"))
    assert await client.get("t") is None
    with pytest.raises(TimeoutError):
        await client.wait("t", timeout_s=0.2)
    await worker.let_go("t")
    assert (await client.wait("t", timeout_s=LONG_S)).status == "ok"
    assert (await client.get("t")) is not None


async def test_tickets_of_a_batch(client: AsyncSandboxClient, worker: ScriptedWorker, wait_until: WaitUntil) -> None:
    """All or nothing: no Results while one is not done; then all, in the order of the calls."""
    ticket = await client.submit_batch(["1", Call(id="h", code="hold"), "3"])
    await wait_until(lambda: worker.holds("h"))
    assert await client.get_batch(ticket.id) is None
    with pytest.raises(TimeoutError):
        await client.wait_batch(ticket.id, timeout_s=0.2)
    await worker.let_go("h")
    results = await client.wait_batch(ticket.id, timeout_s=LONG_S)
    assert [each.stdout for each in results] == ["1", "hold", "3"]
    assert await client.get_batch(ticket.id) == results


async def test_a_ticket_stands_for_its_id(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """Everywhere; that of a batch is no call's, and what is neither is told so."""
    call, batch = await client.submit("7"), await client.submit_batch(["8", "9"])
    assert (await client.wait(call, timeout_s=LONG_S)).id == call.id
    assert [result.id for result in await client.wait_batch(batch, timeout_s=LONG_S)] == [
        f"{batch.id}.0",
        f"{batch.id}.1",
    ]
    assert await client.get(call) is not None
    assert await client.get_batch(batch) is not None
    await client.cancel(call)
    await client.cancel_batch(batch)
    with pytest.raises(InvalidCall, match="asked for with wait_batch, get_batch and cancel_batch"):
        await client.wait(batch)
    with pytest.raises(InvalidCall, match="asked for with wait, get and cancel"):
        await client.cancel_batch(call)
    with pytest.raises(InvalidCall, match="must be an id or a Ticket, not of type Result"):
        await client.get(await client.wait(call))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"code": "1"}, ("1", {}), 1, None])
async def test_what_is_no_program_is_told_by_its_type(client: AsyncSandboxClient, wrong: object) -> None:
    """A mapping of fields above all, which is what travels over HTTP."""
    told = f"code: must be a program as text, or a Call, not of type {type(wrong).__name__}"
    with pytest.raises(InvalidCall, match=told):
        await client.run_batch([wrong])  # type: ignore[list-item]


async def test_cancelling_by_id_batch_and_label(
    client: AsyncSandboxClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """What is held is killed; the count is of the unfinished calls that carry the label."""
    await client.submit(Call(id="a", code="hold"))
    batch = await client.submit_batch([Call(id="b", code="hold"), "1"])
    await client.submit(Call(id="c", code="hold", labels={"run": "r"}))
    await wait_until(lambda: all(map(worker.holds, "abc")))
    await client.cancel("a")
    await client.cancel_batch(batch.id)
    assert await client.cancel_label("run", "r") == 1
    for id in "abc":
        assert (await client.wait(id, timeout_s=LONG_S)).status == "cancelled"
    assert [each.status for each in await client.wait_batch(batch.id, timeout_s=LONG_S)] == ["cancelled", "ok"]


async def test_who_stops_waiting_cancels(
    client: AsyncSandboxClient, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """Its call only, not those that travel with it."""
    runs = {id: asyncio.ensure_future(client.run(Call(id=id, code="hold"))) for id in "xy"}
    await wait_until(lambda: worker.holds("x") and worker.holds("y"))
    runs["x"].cancel()
    await wait_until(lambda: not worker.holds("x"))
    assert worker.holds("y")
    await worker.let_go("y")
    assert (await runs["y"]).status == "ok"
    assert client.stats().cancelled == 1


async def test_a_refused_call_fails_alone(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """The service knows no such image; the calls beside it run, and the error names the field of its call."""
    outcomes = await asyncio.gather(
        client.run("1"), client.run("2", image="nosuch"), client.run("3"), return_exceptions=True
    )
    assert [each.stdout for each in outcomes if isinstance(each, Result)] == ["1", "3"]
    error = outcomes[1]
    assert isinstance(error, InvalidCall)
    assert error.field == "image"


async def test_errors_are_typed(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """An unknown id, and an id that was used for another call."""
    with pytest.raises(NotFound):
        await client.get("nosuch")
    with pytest.raises(NotFound):
        await client.get_batch("nosuch")
    await client.run(Call(id="x", code="1"))
    with pytest.raises(Conflict):
        await client.run(Call(id="x", code="2"))


@pytest.mark.parametrize(
    ("scheme", "told"), [("grpc", "speaks HTTP; use http://"), ("grpcs", "does not speak TLS; use grpc://")]
)
async def test_grpc_to_a_port_of_http_fails_at_once_and_says_what_to_use(
    start_gateway: StartGateway, scheme: str, told: str
) -> None:
    """Not retried: nothing would change."""
    address = (await start_gateway()).url.partition("://")[2]
    async with AsyncSandboxClient(f"{scheme}://{address}") as client:
        async with asyncio.timeout(LONG_S):
            with pytest.raises(SetupError, match=f"{told}{address}"):
                await client.run("print(1)")


async def test_a_key_is_asked_for(start: Start, worker: ScriptedWorker, tmp_path: Path) -> None:
    """The same key over every transport."""
    keys = tmp_path / "keys"
    keys.write_text(f"t:{hashlib.sha256(b'secret').hexdigest()}\n")
    service = await start(api_keys_file=keys)
    async with AsyncSandboxClient(service.url) as stranger:
        with pytest.raises(Unauthorized):
            await stranger.run("1")
    async with AsyncSandboxClient(service.url, api_key="secret") as client:
        assert (await client.run("1")).status == "ok"


async def test_overload_is_waited_out(start: Start, start_worker: StartWorker, wait_until: WaitUntil) -> None:
    """A full queue refuses before it accepts: the client comes back until there is room, or its deadline passes."""
    service = await start(max_queued=1)
    async with AsyncSandboxClient(service.url) as client:
        await client.submit("0")
        with pytest.raises(Overloaded) as refusal:
            await client.run("1", timeout_s=2)  # so long a busy machine may take to refuse it at all
        assert refusal.value.retry_after_s is not None
        patient = asyncio.ensure_future(client.run("2"))
        await wait_until(lambda: client.stats().retries > 1)
        await start_worker()
        assert (await asyncio.wait_for(patient, LONG_S)).stdout == "2"


async def test_another_gateway_stands_in(start: Start, worker: ScriptedWorker) -> None:
    """One address is dead from the start: half of the requests go there first, and no call notices."""
    service = await start()
    scheme = service.url.partition(":")[0]
    async with AsyncSandboxClient([f"{scheme}://127.0.0.1:9", service.url]) as client:
        for n in range(6):
            assert (await asyncio.wait_for(client.run(str(n)), LONG_S)).stdout == str(n)
    assert len(worker.runs) == 6


async def test_a_gateway_that_stops_in_the_middle_loses_and_doubles_nothing(
    start: Start, worker: ScriptedWorker, wait_until: WaitUntil
) -> None:
    """It ends while 80 calls of 200 are under way: they are awaited through the other one, and each ran once."""
    stopping, other = await start(drain_s=0), await start(drain_s=0)
    ids = [f"c{n}" for n in range(200)]
    calls = [Call(id=id, code="hold" if n >= 120 else "1") for n, id in enumerate(ids)]
    async with AsyncSandboxClient([stopping.url, other.url]) as client:
        batch = asyncio.ensure_future(client.run_batch(calls))
        await wait_until(lambda: all(map(worker.holds, ids[120:])), timeout_s=LONG_S)
        stopping.gateway.server.should_exit = True
        await wait_until(lambda: client.stats().retries, timeout_s=LONG_S)
        for id in ids[120:]:
            await worker.let_go(id)
        results = await asyncio.wait_for(batch, LONG_S)
    assert [(each.id, each.status) for each in results] == [(id, "ok") for id in ids]
    assert sorted(worker.runs) == sorted(ids)


async def test_closing_ends_what_is_under_way(
    service: Service, worker: ScriptedWorker, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs and waits get Unavailable, the service cancels the calls, no connection stays, and none is opened again."""
    monkeypatch.setattr(waiting, "RETURN_S", 0.2)
    client = AsyncSandboxClient(service.url)
    runs = [asyncio.ensure_future(client.run(Call(id=f"r{n}", code="hold"))) for n in range(5)]
    await wait_until(lambda: len(worker.runs) == 5)
    await client.submit(Call(id="t", code="hold"))
    wait = asyncio.ensure_future(client.wait("t"))
    left = asyncio.ensure_future(client.run(Call(id="left", code="hold")))
    await wait_until(lambda: len(worker.runs) == 7)
    left.cancel()
    await asyncio.wait_for(client.aclose(), LONG_S)
    outcomes = await asyncio.gather(*runs, wait, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Unavailable] * 6
    await wait_until(lambda: not any(worker.holds(f"r{n}") for n in range(5)))
    assert [task for task in asyncio.all_tasks() if "sandbox_service/client/" in repr(task)] == []
    with pytest.raises(SetupError, match="was closed"):
        await client.run("1")


async def test_one_client_serves_several_event_loops(service: Service, worker: ScriptedWorker) -> None:
    """Each thread has a loop of its own; they share the client and its numbers."""
    client = AsyncSandboxClient(service.url)
    got: dict[int, list[str]] = {}

    async def use(thread: int) -> None:
        async with client:
            results = await asyncio.gather(*(client.run(f"{thread}-{n}") for n in range(20)))
            got[thread] = [each.stdout for each in results]

    threads = [threading.Thread(target=lambda n=n: asyncio.run(use(n))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert got == {thread: [f"{thread}-{n}" for n in range(20)] for thread in range(4)}
    assert client.stats().calls == 80


async def test_checks_arrive_and_verdicts_return(client: AsyncSandboxClient, worker: ScriptedWorker) -> None:
    """This worker judges nothing: after repeats that is our fault, and no verdict. tests/e2e has the real one."""
    verdicts = await client.verify_batch([("\\boxed{1}", "1"), ("2", "é")], limit_s=1.5)
    assert [(each.status, each.correct) for each in verdicts] == [("infra_error", None)] * 2
    job = worker.jobs[worker.runs[0]]
    assert job.stdin == '["\\\\boxed{1}", "1"]\n["2", "\\u00e9"]\n'
    assert job.args == ["1.5"]
