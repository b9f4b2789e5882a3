"""One client in many processes and threads: forked, pickled, closed by another thread."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from sandbox_service import errors
from sandbox_service.client import AsyncSandboxClient, Retries, SandboxClient
from tests.client.scripted import Answer, ScriptedServer, echo

FORKING = """if True:
    import os, sys, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork with threads, in newer Pythons
    from sandbox_service.client import SandboxClient
    client = SandboxClient(sys.argv[1])
    assert client.run("parent").stdout == "parent"
    children = []
    for n in range(3):
        child = os.fork()
        if not child:
            ok = [client.run(f"{n}-{i}").stdout for i in range(5)] == [f"{n}-{i}" for i in range(5)]
            ok = ok and client.stats().calls == 5
            client.close()
            os._exit(0 if ok else 1)
        children.append(child)
    assert client.run("meanwhile").stdout == "meanwhile"
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert client.run("after").stdout == "after"
    client.close()
"""
FORKING_LOOP = """if True:
    import asyncio, os, sys
    from sandbox_service.client import AsyncSandboxClient
    client = AsyncSandboxClient(sys.argv[1])
    async def run(code):
        return (await client.run(code)).stdout == code
    async def parent():
        assert await run("parent")
        child = os.fork()
        if not child:
            os._exit(42)  # the loop is the parent's: what is forked inside it leaves it alone
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert await run("after")
    asyncio.run(parent())
    child = os.fork()
    if not child:
        os._exit(0 if asyncio.run(run("child")) else 1)
    assert os.waitpid(child, 0)[1] == 0
    asyncio.run(run("parent again"))
"""
FORKING_GRPC = """if True:
    import os, sys
    from sandbox_service.client import SandboxClient, Retries
    from sandbox_service.errors import SetupError, Unavailable
    client = SandboxClient("grpc://127.0.0.1:9", retries=Retries(base_s=0.01, patience_s=0.05))
    try: client.run("1")
    except Unavailable: pass
    child = os.fork()
    if not child:
        try: client.run("1")
        except SetupError as error: os._exit(0 if "fork" in str(error) else 1)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    scripted.script = [echo]
    yield scripted
    scripted.close()


@pytest.mark.slow
@pytest.mark.parametrize("program", [FORKING, FORKING_LOOP], ids=["blocking", "asynchronous"])
def test_a_client_is_used_on_after_a_fork(server: ScriptedServer, program: str) -> None:
    """By children and parent alike, as forked data-loader workers do; each child counts for itself."""
    subprocess.run([sys.executable, "-c", program, server.url], check=True, timeout=50)


@pytest.mark.slow
def test_grpc_says_that_it_does_not_survive_a_fork() -> None:
    """Its threads are the parent's: a child would wait for ever."""
    subprocess.run([sys.executable, "-c", FORKING_GRPC], check=True, timeout=50)


def _use(client: SandboxClient, code: str) -> tuple[int, str]:
    return os.getpid(), client.run(code).stdout


@pytest.mark.slow
def test_a_client_travels_to_spawned_processes(server: ScriptedServer) -> None:
    """Pickled with its key, as arguments of Ray actors and of spawned workers are; the original goes on."""
    with SandboxClient(server.url, api_key="key") as client:
        client.run("before")
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            answers = [pool.submit(_use, client, str(n)) for n in range(4)]
            assert [answer.result(50)[1] for answer in answers] == ["0", "1", "2", "3"]
            assert os.getpid() not in {answer.result()[0] for answer in answers}
        assert client.run("after").stdout == "after"
    assert {seen.headers["authorization"] for seen in server.seen} == {"Bearer key"}


@pytest.mark.parametrize("kind", [SandboxClient, AsyncSandboxClient])
def test_a_pickled_client_keeps_its_options(kind: type[SandboxClient]) -> None:
    """All that it was made with, and none of its state; what is printed of it has no key."""
    client = kind(["http://a", "http://b"], api_key="key", retries=Retries(cap_s=1), coalesce_calls=7)
    copy = pickle.loads(pickle.dumps(client))
    assert copy.__getstate__() == client.__getstate__()
    assert "key" not in repr(copy) + repr(copy.__getstate__())


def test_threads_share_a_blocking_client(server: ScriptedServer) -> None:
    """Their calls travel together in few requests."""
    with SandboxClient(server.url, coalesce_s=0.05) as client, ThreadPoolExecutor(64) as pool:
        results = list(pool.map(client.run, [str(n) for n in range(256)]))
    assert [each.stdout for each in results] == [str(n) for n in range(256)]
    assert len(server.seen) < 256


def test_closing_in_another_thread_lets_nobody_wait_for_ever(server: ScriptedServer) -> None:
    """A run and a wait under way get Unavailable at once."""
    arrived = threading.Semaphore(0)

    def stall(_: object) -> Answer:
        arrived.release()
        return Answer(delay_s=3)

    server.script = [stall]
    client = SandboxClient(server.url)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.run, "1"), pool.submit(client.wait, "x")]
        for _ in waiting:
            assert arrived.acquire(timeout=30)
        client.close()
        for each in waiting:
            with pytest.raises(errors.Unavailable, match="closed"):
                each.result(30)
