"""The service as a user starts it: what is left when it stops, and what becomes of it when a part is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import WaitUntil
from tests.e2e.conftest import Answer
from tests.e2e.running import Running, cgroups_of

Start = Callable[..., Awaitable[Running]]
BOUND_S = 45


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not pytest's tmp_path: its names are too long for a unix socket, and jails may not pass it.
    with tempfile.TemporaryDirectory(prefix="life-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
async def start(folder: Path, wait_until: WaitUntil) -> AsyncIterator[Start]:
    """`await start(SANDBOX_X="y")`: a service that is ready; `name` gives it folders of its own."""
    started: list[Running] = []

    async def begin(name: str = "a", **variables: str) -> Running:
        service = Running(folder / name, **variables)
        started.append(service)
        await wait_until(lambda: service.url, timeout_s=BOUND_S)
        return service

    yield begin
    for service in started:
        if service.process.poll() is None:
            service.process.terminate()
    for service in started:
        await asyncio.to_thread(service.process.wait, BOUND_S)


@pytest.fixture
async def running(start: Start) -> Running:
    return await start()


async def call(service: Running, code: str, **fields: object) -> Answer:
    async with httpx.AsyncClient(base_url=service.url, timeout=BOUND_S) as client:
        answer: Answer = (await client.post("/v1/calls", json={"code": code, **fields})).json()
        return answer


async def begin(service: Running, call_id: str, code: str, wait_until: WaitUntil) -> None:
    """Submit a call and wait until it runs."""
    async with httpx.AsyncClient(base_url=service.url, timeout=BOUND_S) as client:
        response = await client.post("/v1/calls?wait=0", json={"id": call_id, "code": code})
        assert response.status_code == httpx.codes.ACCEPTED, response.text

        async def runs() -> bool:
            return bool((await client.get(f"/v1/calls/{call_id}")).json().get("state") == "running")

        await wait_until(runs, timeout_s=BOUND_S)


async def outcome(service: Running, call_id: str, wait_until: WaitUntil) -> Answer:
    """The Result of a call, however often the service is away meanwhile."""
    found: list[Answer] = []

    async def is_done() -> bool:
        async with httpx.AsyncClient(base_url=service.url, timeout=BOUND_S) as client:
            try:
                response = await client.get(f"/v1/calls/{call_id}", params={"wait_s": 5})
            except httpx.HTTPError:
                return False
        assert response.status_code not in (404, 410), response.text
        if response.status_code == httpx.codes.OK:
            found.append(response.json())
        return bool(found)

    await wait_until(is_done, timeout_s=BOUND_S)
    return found[0]


async def is_ready(service: Running) -> bool:
    async with httpx.AsyncClient(timeout=BOUND_S) as client:
        try:
            return (await client.get(f"{service.url}/readyz")).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


BUSY = "import os, time\nfor _ in range(3):\n    if os.fork() == 0: break\ntime.sleep(60)"


async def test_sigterm_ends_it_with_code_0_and_nothing_is_left(running: Running, wait_until: WaitUntil) -> None:
    """Also while a call runs that does not end within the time for draining: processes, namespaces, mounts, groups."""
    assert (await call(running, "print(1)"))["stdout"] == "1\n"
    await begin(running, "busy", BUSY, wait_until)
    seen = running.look()
    assert len(seen.processes) > 8
    assert cgroups_of(seen.workers)
    running.process.terminate()
    assert await asyncio.to_thread(running.process.wait, BOUND_S) == 0
    assert running.left_of(seen) == []


async def test_a_call_that_ends_while_it_drains_is_stored(start: Start, wait_until: WaitUntil) -> None:
    """SIGTERM, and a call that was accepted before: its Result is there after the next start."""
    service = await start()
    await begin(service, "short", "import time; time.sleep(1); print('done')", wait_until)
    service.process.terminate()
    assert await asyncio.to_thread(service.process.wait, BOUND_S) == 0
    again = await start()
    result = await outcome(again, "short", wait_until)
    assert (result["status"], result["stdout"], result["attempts"]) == ("ok", "done\n", 1)


async def test_a_call_that_does_not_end_while_it_drains_is_run_again(start: Start, wait_until: WaitUntil) -> None:
    service = await start(SANDBOX_DRAIN_S="1")
    await begin(service, "long", "import time; time.sleep(4); print('done')", wait_until)
    service.process.terminate()
    assert await asyncio.to_thread(service.process.wait, BOUND_S) == 0
    again = await start()
    result = await outcome(again, "long", wait_until)
    assert (result["status"], result["stdout"]) == ("ok", "done\n")


async def test_a_killed_supervisor_takes_all_with_it(start: Start, wait_until: WaitUntil) -> None:
    """The worker does not wait for a Redis that ended as well. Nobody is left to tidy up; the next start does that."""
    service = await start()
    await begin(service, "busy", BUSY, wait_until)
    seen = service.look()
    service.process.kill()
    await asyncio.to_thread(service.process.wait, BOUND_S)

    def all_ended() -> bool:
        return not [left for left in service.left_of(seen) if not left.startswith(("file", "cgroup"))]

    await wait_until(all_ended, timeout_s=20)
    again = await start()
    assert (await call(again, "print(1)"))["stdout"] == "1\n"
    assert cgroups_of(seen.workers) == []
    after = again.look()
    again.process.terminate()
    assert await asyncio.to_thread(again.process.wait, BOUND_S) == 0
    assert again.left_of(after) == []


async def test_a_killed_worker_loses_no_call(running: Running, wait_until: WaitUntil) -> None:
    """Its jails end with it; the call runs again when the lease is over; its groups are removed by its successor."""
    await begin(running, "flight", "import time; time.sleep(2); print('done')", wait_until)
    before = running.look()
    jailed = {pid: start for pid, start in before.processes.items() if pid in running.jails() + running.zygotes()}
    os.kill(running.part("worker"), signal.SIGKILL)
    result = await outcome(running, "flight", wait_until)
    assert (result["status"], result["stdout"], result["attempts"]) == ("ok", "done\n", 2)
    assert not [pid for pid, start in running.look().processes.items() if jailed.get(pid) == start]
    assert cgroups_of(before.workers) == []
    assert len(list((running.run_dir / "workers").iterdir())) == 1


async def test_a_killed_gateway_loses_no_call(running: Running, wait_until: WaitUntil) -> None:
    await begin(running, "flight", "import time; time.sleep(1); print('done')", wait_until)
    os.kill(running.part("gateway"), signal.SIGKILL)
    result = await outcome(running, "flight", wait_until)
    assert (result["status"], result["stdout"], result["attempts"]) == ("ok", "done\n", 1)


async def test_a_killed_redis_loses_no_call(running: Running, wait_until: WaitUntil) -> None:
    """What is done stays done, what runs ends, what waits is run: the append-only file has them all."""
    assert (await call(running, "print('before')", id="done"))["status"] == "ok"
    await begin(running, "flight", "import time; time.sleep(2); print('done')", wait_until)
    os.kill(running.part("redis"), signal.SIGKILL)
    result = await outcome(running, "flight", wait_until)
    assert (result["status"], result["stdout"]) == ("ok", "done\n")
    assert (await outcome(running, "done", wait_until))["stdout"] == "before\n"
    await wait_until(lambda: is_ready(running), timeout_s=BOUND_S)
    assert (await call(running, "print('after')"))["stdout"] == "after\n"


@pytest.mark.parametrize("victim", ["jail", "zygote"])
async def test_a_killed_jail_is_replaced(running: Running, victim: str, wait_until: WaitUntil) -> None:
    """Its call is run again at once by the same worker; the worker itself goes on."""
    worker = running.part("worker")
    await begin(running, "flight", "import time; time.sleep(1); print('done')", wait_until)
    (old,) = running.jails()
    os.kill(old if victim == "jail" else running.zygotes()[0], signal.SIGKILL)
    result = await outcome(running, "flight", wait_until)
    assert (result["status"], result["stdout"], result["attempts"]) == ("ok", "done\n", 2)
    await wait_until(lambda: len(running.jails()) == 1 and old not in running.jails(), timeout_s=BOUND_S)
    for _ in range(4):
        assert (await call(running, "print(1)"))["attempts"] == 1
    assert running.part("worker") == worker


@pytest.mark.parametrize("below", ["run", "../a/run"])
async def test_two_services_side_by_side_do_not_disturb_each_other(
    start: Start, folder: Path, below: str, wait_until: WaitUntil
) -> None:
    """Images and data have to be their own, the folder of sockets need not be."""
    first = await start("a")
    second_run_dir = Path(os.path.normpath(folder / "b" / below))
    second = await start("b", SANDBOX_RUN_DIR=str(second_run_dir))
    os.kill(first.part("gateway"), signal.SIGKILL)  # the next one has to find the way to its own queue
    await wait_until(lambda: is_ready(first), timeout_s=BOUND_S)
    assert (await call(first, "print(1)"))["worker"] != (await call(second, "print(1)"))["worker"]
    await begin(second, "flight", "import time; time.sleep(3); print('done')", wait_until)
    seen = first.look()
    first.process.terminate()
    assert await asyncio.to_thread(first.process.wait, BOUND_S) == 0
    if first.run_dir != second_run_dir:
        assert first.left_of(seen) == []
    os.kill(second.part("gateway"), signal.SIGKILL)
    result = await outcome(second, "flight", wait_until)
    assert (result["status"], result["stdout"], result["attempts"]) == ("ok", "done\n", 1)


async def test_a_second_service_on_the_same_folders_is_refused(running: Running, wait_until: WaitUntil) -> None:
    """It says which setting to change, and the first one goes on."""
    intruder = Running(running.folder.parent / "intruder", SANDBOX_STATE_DIR=str(running.folder / "state"))
    assert await asyncio.to_thread(intruder.process.wait, BOUND_S) == 2
    said = intruder.log.read_text()
    assert "SANDBOX_STATE_DIR" in said
    assert "Traceback" not in said
    assert (await call(running, "print(1)"))["stdout"] == "1\n"
