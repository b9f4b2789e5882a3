"""The client SDK where trainers use it: in Ray's actors and tasks, against a live service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")
from sandbox_service.client import AsyncSandboxClient, SandboxClient  # noqa: E402

pytestmark = [pytest.mark.verl, pytest.mark.timeout(200, func_only=True)]
ROOT = Path(__file__).parents[2]
CODE = "print({n} ** 2)"


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
    )  # fmt: skip
    yield
    ray.shutdown()


@ray.remote(num_cpus=0)
class Worker:
    """A rollout worker that was given its client, as a constructor argument."""

    def __init__(self, client: SandboxClient) -> None:
        self.client = client

    def run(self, numbers: list[int]) -> list[str]:
        return [result.stdout for result in self.client.run_batch([CODE.format(n=n) for n in numbers])]

    def sleep(self, seconds: int) -> str:
        return self.client.run(f"import time; time.sleep({seconds})").stdout

    def calls(self) -> tuple[int, int]:
        return os.getpid(), self.client.stats().calls


@ray.remote(num_cpus=0)
class AsyncWorker:
    """Many calls of one asynchronous actor at once, in the event loop that Ray runs it in."""

    def __init__(self, client: AsyncSandboxClient) -> None:
        self.client = client

    async def run(self, number: int) -> str:
        return (await self.client.run(CODE.format(n=number))).stdout

    async def calls(self) -> int:
        return self.client.stats().calls


@ray.remote(num_cpus=0)
def task(client: SandboxClient, number: int) -> str:
    return client.run(CODE.format(n=number)).stdout


def squares(numbers: range) -> list[str]:
    return [f"{n**2}\n" for n in numbers]


@pytest.mark.usefixtures("cluster")
def test_actors_and_tasks_are_given_a_client(service_url: str) -> None:
    """Pickled by Ray, in use in the driver meanwhile; each actor has a process and numbers of its own."""
    with SandboxClient(service_url) as client:
        assert client.run("print(1)").stdout == "1\n"
        workers = [Worker.remote(client) for _ in range(3)]
        shares = [range(30 * n, 30 * (n + 1)) for n in range(3)]
        asked = [worker.run.remote(list(share)) for worker, share in zip(workers, shares, strict=True)]
        assert client.run("print(2)").stdout == "2\n"
        assert ray.get(asked, timeout=100) == [squares(share) for share in shares]
        told = ray.get([worker.calls.remote() for worker in workers], timeout=100)
        assert [calls for _, calls in told] == [30] * 3
        assert len({pid for pid, _ in told} - {os.getpid()}) == 3
        assert ray.get([task.remote(client, n) for n in range(10)], timeout=100) == squares(range(10))
        assert client.stats().calls == 2


@pytest.mark.usefixtures("cluster")
def test_an_asynchronous_actor_awaits_many_calls(service_url: str) -> None:
    """200 at once through one client, whose loop is Ray's."""
    worker = AsyncWorker.options(max_concurrency=200).remote(AsyncSandboxClient(service_url))
    assert ray.get([worker.run.remote(n) for n in range(200)], timeout=100) == squares(range(200))
    assert ray.get(worker.calls.remote(), timeout=100) == 200


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_dies_leaves_the_others_alone(service_url: str) -> None:
    """Killed while its call runs: the driver's client and a new actor with the same client go on."""
    with SandboxClient(service_url) as client:
        worker = Worker.remote(client)
        assert ray.get(worker.run.remote([1]), timeout=100) == ["1\n"]
        waiting = worker.sleep.remote(30)
        ray.kill(worker)
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(waiting, timeout=100)
        assert client.run("print(3)").stdout == "3\n"
        assert ray.get(Worker.remote(client).run.remote([2]), timeout=100) == ["4\n"]
