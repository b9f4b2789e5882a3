"""A gateway on a real socket and a real server, and a worker that answers without running anything."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
import pytest

from sandbox_service.config import Settings
from sandbox_service.gateway.app import create_app
from sandbox_service.gateway.calls import Calls
from sandbox_service.gateway.server import Server
from sandbox_service.models import Job, Result, Status
from sandbox_service.queue import Execution, Queue

StartGateway = Callable[..., Awaitable["Gateway"]]
StartWorker = Callable[..., Awaitable["ScriptedWorker"]]


@pytest.fixture
def prefix() -> str:
    return f"test-{secrets.token_hex(4)}"


async def connect(redis_url: str, prefix: str, **limits: float) -> Queue:
    options = {"result_ttl_s": 60.0, "lease_s": 3.0} | limits
    return await Queue.connect(Settings(redis_url=redis_url, redis_prefix=prefix, **options))


class ScriptedWorker:
    """Claims calls and finishes them: code that starts with `hold` when told to, all other code at once with `ok`
    and the code as its stdout. A cancelled call that is held ends as `cancelled`."""

    def __init__(self, queue: Queue, images: dict[str, str]) -> None:
        self.name = f"scripted-{secrets.token_hex(4)}"
        self.jobs: dict[str, Job] = {}
        self.runs: list[str] = []
        self._queue = queue
        self._images = images
        self._held: dict[str, Execution] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self._queue.join(self.name, self._images)
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._heed_cancellations())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._queue.leave(self.name)
        await self._queue.close()

    async def let_go(self, call_id: str, status: Status = Status.OK) -> None:
        execution = self._held.pop(call_id)
        await self._queue.finish(self.name, [(execution, self._result(call_id, status))])

    def holds(self, call_id: str) -> bool:
        return call_id in self._held

    async def _work(self) -> None:
        while True:
            done = []
            for execution in await self._queue.claim(self.name, 256, wait_s=1):
                self.jobs[execution.id] = Job.model_validate_json(execution.payload)
                self.runs.append(execution.id)
                if self.jobs[execution.id].code.startswith("hold"):
                    self._held[execution.id] = execution
                else:
                    done.append((execution, self._result(execution.id, Status.OK)))
            if done:
                await self._queue.finish(self.name, done)

    async def _heed_cancellations(self) -> None:
        async for _, call_id in self._queue.cancellations(self.name):
            if call_id in self._held:
                await self.let_go(call_id, Status.CANCELLED)

    def _result(self, call_id: str, status: Status) -> bytes:
        job = self.jobs[call_id]
        return Result(id=call_id, status=status, stdout=job.code, labels=job.labels).model_dump_json().encode()


@dataclass
class Gateway:
    settings: Settings
    url: str
    calls: Calls
    client: httpx.AsyncClient
    server: Server


@pytest.fixture
async def start_worker(redis_url: str, prefix: str) -> AsyncIterator[StartWorker]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(*images: str) -> ScriptedWorker:
            queue = await connect(redis_url, prefix)
            worker = ScriptedWorker(queue, dict.fromkeys(images or ("default",), "sha256:0"))
            await worker.start()
            stack.push_async_callback(worker.stop)
            return worker

        yield start


@pytest.fixture
async def worker(start_worker: StartWorker) -> ScriptedWorker:
    return await start_worker()


@pytest.fixture
async def start_gateway(redis_url: str, prefix: str) -> AsyncIterator[StartGateway]:
    """`await start_gateway(max_queued=5)`: a gateway with these settings on a free port."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**options: object) -> Gateway:
            settings = Settings(redis_url=redis_url, redis_prefix=prefix, port=0, **{"drain_s": 0, **options})
            queue = await Queue.connect(settings)
            stack.push_async_callback(queue.close)
            app = create_app(settings, queue)
            server = Server(app, settings, app.state.calls, stopping=app.state.stop)
            await stack.enter_async_context(_running(server))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=30))
            return Gateway(settings, server.url, app.state.calls, client, server)

        yield start


@pytest.fixture
async def gateway(start_gateway: StartGateway) -> Gateway:
    return await start_gateway()


@pytest.fixture
async def http(gateway: Gateway) -> httpx.AsyncClient:
    return gateway.client


@pytest.fixture
def environment(redis_url: str, prefix: str) -> dict[str, str]:
    """Variables of a gateway in a process of its own, which shares this test's queue."""
    return {"SANDBOX_REDIS_URL": redis_url, "SANDBOX_REDIS_PREFIX": prefix, "SANDBOX_PORT": "0"}


@contextlib.asynccontextmanager
async def _running(server: Server) -> AsyncIterator[None]:
    task = asyncio.create_task(server.run_until_stopped())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task
