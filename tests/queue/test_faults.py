"""Cancelled callers, lost connections, a server that is killed: nothing accepted is lost, nothing is mixed up."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sandbox_service.config import Settings
from sandbox_service.embedded import EmbeddedServer
from sandbox_service.errors import ServiceFault, Unavailable
from sandbox_service.queue import Ended, Queue, Record
from tests.queue.conftest import MakeQueue, fetch_one, submission

WaitUntil = Callable[..., Awaitable[None]]


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """A server that a test may kill."""
    with TemporaryDirectory(prefix="queue-") as directory:
        server = EmbeddedServer(Path(directory) / "data", Path(directory) / "redis.sock")
        server.start()
        yield server
        server.stop()


def kill(server: EmbeddedServer) -> None:
    os.kill(server.pid, signal.SIGKILL)
    assert server._process is not None
    assert server._process.wait(5) == -signal.SIGKILL


async def test_cancelled_callers_never_mix_up_answers(queue: Queue) -> None:
    """Of 10,000 fetches a third is cancelled at a random moment of the time that fifty took just before,
    whatever the machine; every other one gets its own call's record.

    redis-py once left the reply of a cancelled command in the connection, and the next user read it as its own
    (CVE-2023-28858).
    """
    generator = random.Random(3)
    names = [f"c{n}" for n in range(50)]
    await queue.submit("t", [submission(name) for name in names], notify="g")
    claimed = await queue.claim("w1", 50, wait_s=0)
    await queue.finish("w1", [(each, each.id.encode()) for each in claimed])
    cancelled = 0

    async def fetch(name: str) -> None:
        assert await fetch_one(queue, name) == Record(name, "done", name.encode())

    took_s = 0.003
    for _ in range(200):
        tasks = [asyncio.create_task(fetch(generator.choice(names))) for _ in range(50)]
        for task in tasks:
            if generator.random() < 0.33:
                asyncio.get_running_loop().call_later(generator.random() * took_s, task.cancel)
        begun = time.monotonic()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        took_s = time.monotonic() - begun
        for outcome in outcomes:
            if isinstance(outcome, asyncio.CancelledError):
                cancelled += 1
            elif outcome is not None:
                raise outcome
    assert cancelled > 1000, "the cancellations hit nothing"


async def test_a_cancelled_claim_gives_back_what_it_got(queue: Queue, wait_until: WaitUntil) -> None:
    """A claim cancelled at any moment loses no call and uses up no attempt."""
    await queue.submit("t", [submission("a")], notify="g")
    hits = 0
    for number in range(60):
        task = asyncio.create_task(queue.claim("w1", 1, wait_s=0))
        await asyncio.sleep(number % 20 * 0.0001)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            hits += 1
        else:
            await queue.release("w1", task.result())
    assert hits > 5, "the cancellations hit nothing"

    async def queued_again() -> bool:
        return await queue.depth() == 1

    await wait_until(queued_again)
    [execution] = await queue.claim("w1", 1, wait_s=1)
    assert execution.attempt == 1


async def test_a_cancelled_submit_happens_whole_or_not_at_all(queue: Queue) -> None:
    """All calls of a batch are there, or none; asking again completes it."""
    for number in range(30):
        calls = [submission(f"{number}-{n}") for n in range(20)]
        task = asyncio.create_task(queue.submit("t", calls, batch=f"b{number}", notify="g"))
        await asyncio.sleep(number % 10 * 0.0002)
        task.cancel()
        await asyncio.wait([task])
        records = await queue.fetch("t", [each.id for each in calls])
        assert len({record is None for record in records}) == 1
        assert len(await queue.submit("t", calls, batch=f"b{number}", notify="g")) == 20
    assert await queue.depth() == 600


async def test_all_connections_cut_under_load(queue: Queue, make_queue: MakeQueue) -> None:
    """The server drops every connection several times: callers see nothing of it, no call is lost or run twice."""
    gateway = await make_queue()
    starts: list[str] = []

    async def serve() -> None:
        while True:
            claimed = await queue.claim("w1", 8, wait_s=0.5)
            starts.extend(each.id for each in claimed)
            await queue.finish("w1", [(each, each.id.encode()) for each in claimed])
            await queue.recover()

    async def cut() -> None:
        for _ in range(5):
            await asyncio.sleep(0.15)
            await gateway._link.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    serving, cutting = asyncio.create_task(serve()), asyncio.create_task(cut())
    names = [f"c{n}" for n in range(400)]
    for at in range(0, 400, 4):
        await gateway.submit("t", [submission(name) for name in names[at : at + 4]], notify="g")
        await asyncio.sleep(0.005)
    await cutting
    async with asyncio.timeout(20):
        while any(record is None or record.state != "done" for record in await gateway.fetch("t", names)):
            await asyncio.sleep(0.05)
    serving.cancel()
    await asyncio.wait([serving])
    assert [record and record.result for record in await gateway.fetch("t", names)] == [n.encode() for n in names]
    assert len(starts) == len(set(starts))


async def test_nothing_accepted_is_lost_when_the_server_is_killed(
    own_server: EmbeddedServer, make_queue: MakeQueue, wait_until: WaitUntil
) -> None:
    """SIGKILL and restart: queued, running and finished calls are all still there, and go on by themselves."""
    queue = await make_queue(own_server.url)
    await queue.join("w1", {"default": "hash"})
    heard: list[list[Ended]] = []

    async def listen() -> None:
        async for message in queue.finished("g"):
            heard.append(message)

    listening = asyncio.create_task(listen())
    await wait_until(lambda: heard)
    await queue.submit("t", [submission("done"), submission("running")], batch="b", notify="g")
    done, running = await queue.claim("w1", 2, wait_s=1)
    await queue.finish("w1", [(done, b"r")])
    accepted = 0
    for accepted in range(200):
        await queue.submit("t", [submission(f"q{accepted}")], notify="g")
    kill(own_server)
    finishing = asyncio.create_task(queue.finish("w1", [(running, b"late")]))
    waiting = asyncio.create_task(queue.claim("w1", 300, wait_s=20))
    own_server.start()
    assert await finishing == [True]
    assert len(await waiting) == accepted + 1
    assert await queue.fetch("t", ["done", "running"]) == [
        Record("done", "done", b"r"),
        Record("running", "done", b"late"),
    ]
    assert await queue.fetch_batch("t", "b") == ["done", "running"]
    await wait_until(lambda: heard.count([]) >= 2)
    listening.cancel()
    await asyncio.wait([listening])


async def test_a_server_restarted_empty_is_used_again(own_server: EmbeddedServer, make_queue: MakeQueue) -> None:
    """Scripts, groups and leases are made anew; what was lost is answered as unknown, a late result as stale."""
    queue = await make_queue(own_server.url)
    await queue.join("w1", {"default": "hash"})
    await queue.submit("t", [submission("lost")], notify="g")
    [execution] = await queue.claim("w1", 1, wait_s=0)
    kill(own_server)
    for path in (own_server.data_dir / "appendonlydir").iterdir():
        path.unlink()
    own_server.start()
    assert await fetch_one(queue, "lost") is None
    assert await queue.finish("w1", [(execution, b"r")]) == [False]
    await queue.submit("t", [submission("new")], notify="g")
    assert [each.id for each in await queue.claim("w1", 1, wait_s=10)] == ["new"]


async def test_a_missing_server_is_unavailable_and_names_no_password(
    own_server: EmbeddedServer, make_queue: MakeQueue
) -> None:
    """A gateway tells its client 503 with Retry-After, within seconds; a waiting worker gets nothing, not an error."""
    queue = await make_queue(own_server.url)
    await queue.join("w1", {"default": "hash"})
    own_server.stop()
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable) as caught:
            await queue.submit("t", [submission("a")], notify="g")
        assert caught.value.retry_after_s
        assert await queue.claim("w1", 1, wait_s=0.2) == []
    with pytest.raises(Unavailable) as caught:
        await Queue.connect(Settings(redis_url="redis://me:secret@127.0.0.1:1/0"))
    assert "127.0.0.1:1" in caught.value.message
    assert "secret" not in caught.value.message


async def test_an_outage_is_told_once_and_no_failure_goes_unseen(
    own_server: EmbeddedServer, make_queue: MakeQueue, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    """The server is away for several beats and claims: one line each when it begins and ends, not one a try; a caller
    that was cancelled meanwhile leaves no "Task exception was never retrieved"."""
    unseen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    queue = await make_queue(own_server.url)
    await queue.join("w1", {"default": "hash"})
    claiming = asyncio.create_task(queue.claim("w1", 1, wait_s=30))
    own_server.stop()
    fetching = asyncio.create_task(queue.fetch("t", ["a"]))
    heartbeat = queue._heartbeat
    assert heartbeat is not None
    await wait_until(lambda: heartbeat.outage.failures >= 5, timeout_s=20)
    fetching.cancel()
    await asyncio.wait([fetching])
    await queue._link.settle()
    del fetching
    gc.collect()
    own_server.start()
    await queue.submit("t", [submission("a")], notify="g")
    assert len(await claiming) == 1
    await wait_until(lambda: "heartbeat of w1 works again" in caplog.text)
    assert caplog.text.count("heartbeat of w1 fails") == 1
    assert caplog.text.count("claiming calls fails") <= 2
    assert unseen == []


async def test_a_full_server_refuses_new_calls_and_ends_those_it_has(
    own_server: EmbeddedServer, make_queue: MakeQueue
) -> None:
    """Out of memory: submit is Unavailable and admits nothing; claiming, finishing and cancelling still work."""
    queue = await make_queue(own_server.url)
    await queue.join("w1", {"default": "hash"})
    await queue.submit("t", [submission("a"), submission("b")], notify="g")
    await queue._link.client.config_set("maxmemory", "1mb")
    with pytest.raises(Unavailable):
        await queue.submit("t", [submission("c")], notify="g")
    [execution] = await queue.claim("w1", 1, wait_s=0)
    assert await queue.finish("w1", [(execution, b"r")]) == [True]
    assert await queue.cancel("t", ["b"]) == ["done"]
    await queue._link.client.config_set("maxmemory", "0")
    assert await fetch_one(queue, "c") is None


async def test_a_fault_of_ours_is_not_called_unavailable(queue: Queue, redis_url: str) -> None:
    """A key of the wrong type is a bug, not an outage: the client must not be told to come back."""
    await queue._link.client.set(f"{queue._keys['CALL']}t:a", "not a hash", ex=5)
    with pytest.raises(ServiceFault, match="WRONGTYPE"):
        await queue.submit("t", [submission("a")], notify="g")


async def test_a_result_outlives_a_server_that_takes_no_writes(
    own_server: EmbeddedServer, make_queue: MakeQueue
) -> None:
    """A full server, or one whose replicas are away, answers `finish` with an error: once the result was dropped at
    once, the leases ran out meanwhile, and each call ran a second time, although every worker lived."""
    lease_s = 1.5
    queue, other = [await make_queue(own_server.url, lease_s=lease_s) for _ in range(2)]
    await queue.join("w1", {"default": "hash"})
    await other.join("w2", {"default": "hash"})
    await queue.submit("t", [submission("a")], notify="g")
    async with asyncio.timeout(20):
        while not (claimed := await queue.claim("w1", 1, wait_s=1)):
            pass
        while (await own_server_uptime(queue)) < 2 * lease_s:  # before that, nobody is judged anyway
            await asyncio.sleep(0.1)
        await queue._link.client.config_set("min-replicas-to-write", 1)
        finishing = asyncio.create_task(queue.finish("w1", [(claimed[0], b"r")]))
        while await queue._link.client.exists(f"{queue._keys['WORKER']}w1"):
            await asyncio.sleep(0.05)
        await queue._link.client.config_set("min-replicas-to-write", 0)
        other._heartbeat.beat()  # type: ignore[union-attr]  # the other worker is back first
        assert await other.recover() == 0
        assert await finishing == [True]


async def own_server_uptime(queue: Queue) -> float:
    return float((await queue._link.client.info("server"))["uptime_in_seconds"])
