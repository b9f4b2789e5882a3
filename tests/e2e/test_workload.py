"""Tool calls as a model writes them, through the running service and its client."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import httpx
import pytest

from loadtest import mixed
from loadtest.workload import load
from sandbox_service.client import AsyncSandboxClient, Call


@pytest.mark.timeout(180, func_only=True)
async def test_every_tool_call_ends_as_expected(service_url: str) -> None:
    """Status, exit code, signal, limit, exact output and returned files of each call of the workload."""
    calls = load("toolcalls")
    wrong: list[str] = []
    async with AsyncSandboxClient(service_url) as client:
        async for index, result in client.map([item.call for item in calls]):
            wrong += [f"{calls[index].name}: {sentence}" for sentence in calls[index].expected.mismatches(result)]
    assert wrong == []


@pytest.mark.timeout(400, func_only=True)
async def test_many_clients_get_the_answers_to_their_own_calls(service_url: str) -> None:
    """2,000 mixed calls from 64 clients at once: every answer is the expected one, none is lost or swapped."""
    report = await mixed.run(service_url, mixed.choose(2000, seed=1), clients=64)
    assert report.wrong == []
    assert len(report.ids) == 2000


async def test_one_slow_call_does_not_hold_back_its_batch(service_url: str) -> None:
    """In a streamed batch of 64 with one call that sleeps, the other 63 results arrive before it ends."""
    calls = ["import time; time.sleep(5)", *["print(1)"] * 63]
    async with AsyncSandboxClient(service_url) as client:
        order = [index async for index, _ in client.map(calls)]
    assert order[-1] == 0
    assert sorted(order) == list(range(64))


async def test_a_ticket_leads_to_the_result(service_url: str) -> None:
    """submit, get while it runs, wait: the client's other way to an answer."""
    async with AsyncSandboxClient(service_url) as client:
        ticket = await client.submit("import time; time.sleep(1); print('late')")
        assert await client.get(ticket.id) is None
        assert (await client.wait(ticket.id, timeout_s=30)).stdout == "late\n"


async def test_calls_are_cancelled_by_id_and_by_label(service_url: str) -> None:
    """What a trainer that goes away leaves behind can be ended: the sleepers are killed, their results say so."""
    async with AsyncSandboxClient(service_url) as client:
        tickets = [
            await client.submit("import time; time.sleep(30)", labels={"run": "gone", "n": str(n)}) for n in range(3)
        ]
        await client.cancel(tickets[0].id)
        assert await client.cancel_label("run", "gone") == 2
        results = await asyncio.gather(*(client.wait(ticket.id, timeout_s=20) for ticket in tickets))
    assert [result.status for result in results] == ["cancelled"] * 3


async def test_a_lost_connection_does_not_run_a_call_twice(service_url: str) -> None:
    """The connection breaks while the call runs; the client asks again under the same id and gets the one Result."""
    target, cut, relays = httpx.URL(service_url), asyncio.Event(), list[asyncio.Task[None]]()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on both ways; the first connection is closed when `cut` is set."""
        relays.append(asyncio.current_task())
        is_first = len(relays) == 1
        up_reader, up_writer = await asyncio.open_connection(target.host, target.port)
        pumps = [asyncio.create_task(pump(reader, up_writer)), asyncio.create_task(pump(up_reader, writer))]
        if is_first:
            pumps.append(asyncio.create_task(cut.wait()))
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for task in pumps:
            task.cancel()
        for each in (writer, up_writer):
            each.close()
            with contextlib.suppress(ConnectionError):  # the other end may have been faster
                await each.wait_closed()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    call = Call(id=uuid.uuid4().hex, code="import time; time.sleep(2); print(time.time_ns())")
    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with AsyncSandboxClient(f"http://127.0.0.1:{port}") as client:
            running = asyncio.create_task(client.run(call))
            while await state_of(service_url, call.id) != "running":
                await asyncio.sleep(0.05)
            cut.set()
            result = await running
        await asyncio.gather(*relays)
    async with AsyncSandboxClient(service_url) as direct:
        again = await direct.run(call)
    assert len(relays) == 2
    assert (result.status, result.attempts) == ("ok", 1)
    assert again.stdout == result.stdout


async def state_of(service_url: str, id: str | None) -> str | None:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = (await http.get(f"{service_url}/v1/calls/{id}")).json()
    return answer.get("state")
