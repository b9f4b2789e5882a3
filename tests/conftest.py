"""Fixtures that every part's tests share: a real server, and waiting without sleeping."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis

from sandbox_service import logs
from sandbox_service.embedded import EmbeddedServer
from sandbox_service.queue import is_permanent_key

WaitUntil = Callable[..., Awaitable[None]]

# A shell starts background jobs with the first two ignored, nohup with the third; what is tested would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# gRPC's fork handlers start its threads in each child that runs Python before exec (preexec_fn); these die of closed
# descriptors. It is read when grpc is first imported.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


@pytest.fixture(scope="session", autouse=True)
def no_test_sets_up_the_logs() -> Iterator[None]:
    """Where a service runs in the tests' process, what it sets up would stay, and no later test could read its logs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "configure", lambda level: None)
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedServer]:
    # Not pytest's tmp_path: its names are too long for a unix socket.
    with (
        tempfile.TemporaryDirectory(prefix="queue-") as directory,
        EmbeddedServer(Path(directory) / "data", Path(directory) / "redis.sock") as server,
    ):
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedServer) -> str:
    return redis_server.url


@pytest.fixture(autouse=True)
def the_working_directory_stays() -> Iterator[None]:
    """A test that leaves another one behind would fail a later test, in some orders only."""
    before = Path.cwd()
    yield
    assert Path.cwd() == before


@pytest.fixture(autouse=True)
def every_key_expires(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test that used the server: every key has a time to live or is on the permanent list."""
    yield
    if "redis_server" not in request.fixturenames:
        return
    server: EmbeddedServer = request.getfixturevalue("redis_server")
    with redis.Redis.from_url(server.url) as client:
        assert keys_without_ttl(client) == []


def keys_without_ttl(client: redis.Redis) -> list[str]:
    """Keys that would stay forever although they are not on the permanent list."""
    keys = [key.decode() for key in client.scan_iter(count=1000) if not is_permanent_key(key.decode())]
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.ttl(key)
    return [key for key, ttl in zip(keys, pipeline.execute(), strict=True) if ttl == -1]


@pytest.fixture
def wait_until() -> WaitUntil:
    """`await wait_until(condition, timeout_s=5)`: polls a plain or async condition; fails when time is up."""

    async def wait(condition: Callable[[], object], *, timeout_s: float = 5.0) -> None:
        async with asyncio.timeout(timeout_s):
            while True:
                answer = condition()
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer:
                    return
                await asyncio.sleep(0.005)

    return wait
