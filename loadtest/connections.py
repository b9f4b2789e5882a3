"""Whether a service holds tens of thousands of clients that make a connection for each call, all at once.

Each call is a request to `/run_code` as verl and the sandbox-fusion SDK send it: a new TCP connection, the request, the
answer, the end. There is no worker until the gateways hold every one of them; then one comes and answers them all. An
answer that is not the call's own, a connection that is refused or cut off, and a call that is lost make it fail.

    python -m loadtest.connections --connections 45000

Every process here is bound by its limit on descriptors (`ulimit -Hn`): give it as many `--gateways` as that takes, and
as many clients are started. Each client has a loopback address of its own, whose ports do not run out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

import redis
import uvloop

from loadtest.load import cost
from loadtest.load.at_once import waiting
from loadtest.load.cluster import Cluster, cluster
from loadtest.load.crowd import summary_ms
from loadtest.load.drive import Connection, Refused

PATIENCE_S = 600.0
"""What each request allows its program; so long do the gateways hold it."""
_TICK_S = 0.5
_fork = multiprocessing.get_context("fork")


@dataclass
class Told:
    """What one client process has seen."""

    took_s: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    connected_s: float = 0.0
    """When the last of its connections was made, after the start."""


def request(number: int) -> bytes:
    """What verl's reward client sends, but for its time limits."""
    limits = {"compile_timeout": 0, "run_timeout": PATIENCE_S, "memory_limit_MB": 1024}
    program = {"code": f"print({number})", "language": "python", "stdin": None, "files": {}, "fetch_files": []}
    return json.dumps(limits | program).encode()


async def ask(url: str, source: str, number: int, told: Told, start: float) -> None:
    begun = time.monotonic()
    connection = Connection(url, source)
    try:
        async with asyncio.timeout(2 * PATIENCE_S):
            await connection.open()
            told.connected_s = max(told.connected_s, time.monotonic() - start)
            reader = await connection.post("/run_code", request(number), "*/*", lambda: None)
            answer = json.loads(await connection.body(reader))
        if answer["status"] != "Success" or answer["run_result"]["stdout"] != f"{number}\n":
            told.faults[f"a wrong answer: {str(answer)[:300]}"] += 1
        told.took_s.append(time.monotonic() - begun)
    except (Refused, OSError, EOFError, TimeoutError) as error:
        told.faults[f"no answer: {type(error).__name__}: {error}"[:300]] += 1
    finally:
        connection.close()


def client(url: str, source: str, numbers: range, pipe: Pipe) -> None:
    async def all_at_once() -> Told:
        told, start = Told(), time.monotonic()
        await asyncio.gather(*(ask(url, source, number, told, start) for number in numbers))
        return told

    pipe.send(uvloop.run(all_at_once()))
    pipe.close()


def storm(service: Cluster, connections: int) -> dict[str, object]:
    count = len(service.urls)
    pipes, clients = [], []
    begun = time.monotonic()
    for number, url in enumerate(service.urls):
        ours, theirs = _fork.Pipe(duplex=False)
        share = range(number * connections // count, (number + 1) * connections // count)
        process = _fork.Process(target=client, args=(url, f"127.0.0.{2 + number}", share, theirs), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        clients.append(process)
    held, rss_mb = hold_all(service, connections, begun, pipes)
    held_s = time.monotonic() - begun
    service.add_worker()
    told: list[Told] = [pipe.recv() for pipe in pipes]
    took_s = time.monotonic() - begun
    for process in clients:
        process.join()
    answered = sum(len(each.took_s) for each in told)
    faults = sum((each.faults for each in told), Counter[str]())
    return {
        "connections": connections,
        "gateways": count,
        "held_at_once": held,
        "held_after_s": round(held_s, 1),
        "connected_after_s": round(max(each.connected_s for each in told), 1),
        "gateways_rss_mb": round(rss_mb),
        "answered": answered,
        "faults": dict(faults.most_common(5)),
        "seconds": round(took_s, 1),
        "latency_ms": summary_ms(sorted(each for one in told for each in one.took_s)),
        "passed": held == answered == connections and not faults,
    }


def hold_all(service: Cluster, connections: int, begun: float, pipes: list[Pipe]) -> tuple[int, float]:
    """Wait until the queue has all calls, whose clients all wait then; return how many it has, and the memory."""
    with redis.Redis.from_url(service.redis.url) as queue:
        while (held := waiting(queue)) < connections and time.monotonic() < begun + PATIENCE_S / 2:
            if all(pipe.poll() for pipe in pipes):
                break  # they have all ended
            service.check()
            time.sleep(_TICK_S)
    return held, cost.take(service, time.monotonic()).rss_mb["gateway"]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--connections", type=int, default=9000, help="at once (default: %(default)s)")
    options.add_argument("--gateways", type=int, default=3, help="and client processes (default: %(default)s)")
    asked = options.parse_args()
    with cluster(gateways=asked.gateways, workers=0) as service:
        found = storm(service, asked.connections)
    print(json.dumps(found, indent=1))
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
