"""Calls per second that one server passes through admit, start and finish, by batch size.

    python -m loadtest.queue_bench [seconds per batch size]

Two gateways and two workers in one process on an embedded server (append-only file, fsync every second), 500-byte
payloads and 350-byte results. It measures the queue alone: no HTTP, no code runs. Every call's end is awaited through
the announcements, and their number is checked.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from sandbox_service.config import Settings
from sandbox_service.embedded import EmbeddedServer
from sandbox_service.queue import Queue, Submission

PAYLOAD = b"x" * 500
RESULT = b"r" * 350
IN_FLIGHT = 512


async def main(seconds: float) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        EmbeddedServer(Path(directory) / "data", Path(directory) / "redis.sock") as server,
    ):
        for batch in (1, 8, 64):
            calls, elapsed_s, server_us = await measure(server.url, batch, seconds)
            print(
                f"batch {batch:3}: {calls / elapsed_s:8,.0f} calls/s  ({calls:,} calls in {elapsed_s:.1f} s), "
                f"{server_us / calls:5.1f} us of the server's CPU for a call",
                flush=True,
            )


async def measure(url: str, batch: int, seconds: float) -> tuple[int, float, float]:
    settings = Settings(redis_url=url, redis_prefix=f"bench{batch}", result_ttl_s=60)
    queues = [await Queue.connect(settings) for _ in range(4)]
    gateways, workers = queues[:2], queues[2:]
    stop = asyncio.Event()
    for number, queue in enumerate(workers):
        await queue.join(f"w{number}", {"default": "hash"})
    serving = [asyncio.create_task(work(queue, f"w{number}", batch, stop)) for number, queue in enumerate(workers)]
    before_us = await cpu_us(queues[0])
    started = time.perf_counter()
    done = await asyncio.gather(
        *(drive(queue, f"g{number}", batch, started + seconds) for number, queue in enumerate(gateways))
    )
    elapsed_s = time.perf_counter() - started
    stop.set()
    await asyncio.gather(*serving)
    if await gateways[0].depth():
        raise SystemExit("calls are left in the queue")
    server_us = await cpu_us(queues[0]) - before_us
    for queue in queues:
        await queue.close()
    return sum(done), elapsed_s, server_us


async def cpu_us(queue: Queue) -> float:
    info = await queue._link.client.info("cpu")
    return 1e6 * (info["used_cpu_user"] + info["used_cpu_sys"])


async def work(queue: Queue, name: str, batch: int, stop: asyncio.Event) -> None:
    while not stop.is_set():
        claimed = await queue.claim(name, batch, wait_s=0.2)
        if claimed and not all(await queue.finish(name, [(each, RESULT) for each in claimed])):
            raise SystemExit("a result was refused as stale")
    await queue.leave(name)


async def drive(queue: Queue, name: str, batch: int, until: float) -> int:
    """Submit batches, with at most IN_FLIGHT calls unfinished; answer how many calls were announced as done."""
    submitted = done = 0
    room = asyncio.Event()
    heard = queue.finished(name)
    await anext(heard)

    async def listen() -> None:
        nonlocal done
        async for finished in heard:
            done += len(finished)
            room.set()

    listening = asyncio.create_task(listen())
    while time.perf_counter() < until or done < submitted:
        if time.perf_counter() > until + 10:
            raise SystemExit(f"{submitted - done} of {submitted} calls were not announced")
        if time.perf_counter() < until and submitted - done <= IN_FLIGHT - batch:
            await queue.submit("bench", [submission(f"{name}-{submitted + at}") for at in range(batch)], notify=name)
            submitted += batch
            continue
        room.clear()
        if submitted > done:
            await asyncio.wait_for(room.wait(), 10)
    listening.cancel()
    await asyncio.wait([listening])
    return done


def submission(call_id: str) -> Submission:
    return Submission(call_id, PAYLOAD, "0" * 64, "default", "interactive", {"run": "bench"}, timeout_s=60, age_s=0.001)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0))
