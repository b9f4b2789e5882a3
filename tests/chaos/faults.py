"""The faults, as data: what is done to the service, and what may come of it. `driver.py` runs them under load.

Numbers as in the acceptance list (L01-L19). A strike is one harm: it returns how many calls it hit, and raises NotHit
if the part was idle, for then nothing was shown. All further traffic is the ledger's.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass

import httpx

from loadtest import ledger as book
from sandbox_service.client import AsyncSandboxClient, Status
from tests.chaos.clients import expire, leave, storm
from tests.chaos.proxy import State
from tests.chaos.rig import LEASE_S, NotHit, Part, is_init, state_of, until
from tests.chaos.scene import BACK_S, Scene, Strike
from tests.e2e.processes import children_of, jails_below, name_of, parent_of


@dataclass(frozen=True)
class Fault:
    name: str
    what: str
    strike: Strike
    strikes: int = 3
    in_ci: bool = False
    reruns: bool = False
    """Executions are lost, so that calls run a second time: at most as many as were hit. Otherwise none may."""
    exact: bool = False
    """Every strike ends one program: as many calls are run again or told as `signaled`, none is `ok` all the same."""
    spares: bool = False
    """Where nothing can start nothing is tried: no call may end as `infra_error`."""
    loses_data: bool = False
    """Redis itself forgets: calls are handed in and run again, and told of with 404 or an error, never by silence."""


# Killed


async def kill_worker(scene: Scene) -> int:
    worker = random.choice(scene.rig.workers)
    hit = await scene.rig.freeze_busy(worker)
    worker.signal(signal.SIGKILL)
    return hit


async def kill_jail(scene: Scene) -> int:
    """The zygote, or the whole container from outside, while programs run in it."""
    worker = random.choice(scene.rig.workers)
    hit = await scene.rig.freeze_busy(worker)  # so that no program ends meanwhile unseen: the worker reads nothing
    try:
        for pid in random.choice([scene.rig.zygotes(worker), jails_below(worker.pid)]):
            os.kill(pid, signal.SIGKILL)
    finally:
        worker.signal(signal.SIGCONT)
    return hit


async def kill_init(scene: Scene) -> int:
    """The init of the slot that a program runs in: its kernel kills the program, and that is our fault."""
    pid = await _a_frozen_program(scene)
    os.kill(_init_of(pid), signal.SIGKILL)
    return 1


async def kill_program(scene: Scene) -> int:
    """The program itself, from outside: `signaled`, never `ok`."""
    os.kill(await _a_frozen_program(scene), signal.SIGKILL)
    scene.excused["signaled"] += 1
    return 1


async def kill_gateway(scene: Scene) -> int:
    hit = scene.waiting()
    random.choice(scene.rig.gateways).signal(signal.SIGKILL)
    return hit


async def kill_redis(scene: Scene) -> int:
    with scene.rig.redis() as client:
        client.config_set("appendfsync", random.choice(["always", "everysec"]))
    hit = scene.rig.kill_redis()
    await asyncio.sleep(random.uniform(0.2, 1.0))
    scene.rig.server.start()
    return hit


async def empty_redis(scene: Scene) -> int:
    hit = scene.rig.kill_redis()
    shutil.rmtree(scene.rig.server.data_dir / "appendonlydir")
    scene.rig.server.start()
    return hit


# Cut off


async def partition_worker(scene: Scene) -> int:
    """The worker runs on without Redis for longer than its lease, and then hands in what nobody waits for."""
    worker = random.choice(scene.rig.workers)
    hit = await scene.rig.freeze_busy(worker)
    worker.proxy.set(State.SILENT)
    worker.signal(signal.SIGCONT)
    await asyncio.sleep(2.5 * LEASE_S)
    worker.proxy.set(State.OPEN)
    return hit


async def cut_worker(scene: Scene) -> int:
    worker = random.choice(scene.rig.workers)
    hit = await scene.rig.freeze_busy(worker)
    worker.proxy.set(State.CUT)
    worker.signal(signal.SIGCONT)
    await asyncio.sleep(2.5 * LEASE_S)
    worker.proxy.set(State.OPEN)
    return hit


async def partition_gateway(scene: Scene) -> int:
    hit = scene.waiting()
    gateway = random.choice(scene.rig.gateways)
    gateway.proxy.set(random.choice([State.SILENT, State.CUT]))
    await asyncio.sleep(3.0)
    gateway.proxy.set(State.OPEN)
    return hit


async def freeze_worker(scene: Scene) -> int:
    """Not killed, only stopped, for longer than its lease: it wakes up and believes that its calls are its own."""
    worker = random.choice(scene.rig.workers)
    hit = await scene.rig.freeze_busy(worker)
    await asyncio.sleep(2.5 * LEASE_S)
    worker.signal(signal.SIGCONT)
    return hit


async def freeze_redis(scene: Scene) -> int:
    hit = scene.waiting()
    os.kill(scene.rig.server.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(LEASE_S + 1.0)
    finally:
        os.kill(scene.rig.server.pid, signal.SIGCONT)
    return hit


async def slow_redis(scene: Scene) -> int:
    hit = scene.waiting()
    for part in scene.rig.parts:
        part.proxy.delay_s = (0.1, 0.5)
    await asyncio.sleep(5.0)
    for part in scene.rig.parts:
        part.proxy.delay_s = (0.0, 0.0)
    return hit


async def drop_connections(scene: Scene) -> int:
    hit = scene.waiting()
    with scene.rig.redis() as client:
        for kind in ("normal", "pubsub"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
    return hit


async def full_redis(scene: Scene) -> int:
    """Memory at its limit: nothing new is taken, what is there ends."""
    hit = scene.waiting()
    with scene.rig.redis() as client:
        before = client.config_get("maxmemory")["maxmemory"]
        client.config_set("maxmemory", "1mb")
        await asyncio.sleep(3.0)
        client.config_set("maxmemory", before)
    return hit


async def readonly_redis(scene: Scene) -> int:
    """A failover's moment: the server takes no writes."""
    hit = scene.waiting()
    with scene.rig.redis() as client:
        client.execute_command("CONFIG", "SET", "min-replicas-to-write", "1")  # NOREPLICAS to each write
        await asyncio.sleep(3.0)
        client.execute_command("CONFIG", "SET", "min-replicas-to-write", "0")
    return hit


# Short of what the machine gives


async def starve_worker(scene: Scene) -> int:
    """No descriptor left to the worker, so no call can be given its pipes: it gives them back, and claims nothing."""
    worker = random.choice(scene.rig.workers)
    return await _noticed(scene, worker, _limited([worker.pid], resource.RLIMIT_NOFILE, 3))


async def refuse_forks(scene: Scene) -> int:
    """No process left to the zygotes of a worker: each fork fails with EAGAIN."""
    worker = random.choice(scene.rig.workers)
    return await _noticed(scene, worker, _limited(scene.rig.zygotes(worker), resource.RLIMIT_NPROC, 0))


async def starve_gateway(scene: Scene) -> int:
    """No descriptor left to the gateway: it takes no connection, and serves those that it has."""
    number = random.randrange(2)
    hit = scene.waiting()
    async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
        limited = asyncio.create_task(_limited([scene.rig.gateways[number].pid], resource.RLIMIT_NOFILE, 3))
        await asyncio.sleep(0.1)
        try:
            await http.get(f"{scene.rig.urls[number]}/healthz")
        except httpx.TransportError:
            return hit
        finally:
            await limited
    raise NotHit("the gateway took a connection all the same")


async def _limited(pids: list[int], limit: int, most: int) -> None:
    """Keep these processes at this limit for a while."""
    before = {pid: resource.prlimit(pid, limit, (most, resource.prlimit(pid, limit)[1])) for pid in pids}
    await asyncio.sleep(3.0)
    for pid, limits in before.items():
        with suppress(ProcessLookupError):  # a jail that cannot serve is made anew
            resource.prlimit(pid, limit, limits)


async def _noticed(scene: Scene, worker: Part, limited: Awaitable[None]) -> int:
    """How many calls were under way meanwhile, if the worker failed any."""
    answered, failed = scene.ledger.answered, _failures(worker)
    await limited
    if _failures(worker) == failed:
        raise NotHit(f"{worker.name} did not notice")
    return scene.ledger.sent - answered


def _failures(worker: Part) -> int:
    return sum('"level": "error"' in line or '"level": "warning"' in line for line in worker.log_lines())


# What kills its workers


async def poison(scene: Scene) -> int:
    """A call that kills its worker each time: two attempts, then `infra_error` and a dead letter; the others go on."""
    call_id = f"poison-{random.getrandbits(64):x}"
    async with AsyncSandboxClient(scene.rig.urls[0], retries=book.PATIENT) as sdk:
        waiting = asyncio.create_task(sdk.run(book.make_call(call_id, pause_s=8.0)))
        for attempt in (1, 2):
            await _started(scene, call_id, attempt)
            _worker_of(scene, call_id, attempt).signal(signal.SIGKILL)
        result = await waiting
    assert (result.status, result.attempts) == (Status.INFRA_ERROR, 2), result
    with scene.rig.redis() as client:
        assert call_id in [fields["id"] for _, fields in client.xrange("sandbox:dead")], "no dead letter"
    return 2 + scene.waiting()


async def lose_jail_then_worker(scene: Scene) -> int:
    """A call's jail dies, the worker repeats it itself, and dies in that: it was the second attempt."""
    call_id = f"twice-{random.getrandbits(64):x}"
    async with AsyncSandboxClient(scene.rig.urls[0], retries=book.PATIENT) as sdk:
        waiting = asyncio.create_task(sdk.run(book.make_call(call_id, pause_s=8.0)))
        await _started(scene, call_id, 1)
        worker = _worker_of(scene, call_id, 1)
        hit = scene.rig.running(worker)
        for zygote in scene.rig.zygotes(worker):
            os.kill(zygote, signal.SIGKILL)
        await _started(scene, call_id, 2)
        assert _worker_of(scene, call_id, 2) is worker, "it was repeated elsewhere"
        hit += scene.rig.running(worker)
        worker.signal(signal.SIGKILL)
        result = await waiting
    assert (result.status, result.attempts) == (Status.INFRA_ERROR, 2), result
    starts = book.executions(scene.rig.worker_logs())[call_id]
    assert starts == 2, f"it was started {starts} times"
    return hit


async def _started(scene: Scene, call_id: str, times: int) -> None:
    await until(lambda: book.executions(scene.rig.worker_logs())[call_id] >= times, BACK_S, "it runs")
    await asyncio.sleep(0.2)


def _worker_of(scene: Scene, call_id: str, attempt: int) -> Part:
    for worker in scene.rig.workers:
        if any(call_id in line and f'"attempt": {attempt}' in line for line in worker.log_lines()):
            return worker
    raise NotHit(f"nobody started {call_id}")


# Asked to stop


async def roll(scene: Scene) -> int:
    """SIGTERM to one part after the other, under load: each drains, ends with 0, and its successor takes over."""
    hit = 0
    for part in scene.rig.parts:
        if part in scene.rig.workers:
            await until(lambda p=part: p.is_up and scene.rig.running(p), BACK_S, f"{part.name} is busy")
        hit += scene.waiting()
        ended = len(part.exit_codes)
        part.signal(signal.SIGTERM)
        await until(lambda p=part, n=ended: len(p.exit_codes) > n, BACK_S, f"{part.name} ends")
        assert part.exit_codes[-1] == 0, f"{part.name} ended with {part.exit_codes[-1]}"
        await until(lambda p=part: p.is_up, BACK_S, f"{part.name} is back")
        await scene.rig.until_ready()
    return hit


async def stop_redis(scene: Scene) -> int:
    """SIGTERM to Redis and a new start, as for an update."""
    hit = scene.waiting()
    scene.rig.server.stop()
    await asyncio.sleep(1.0)
    scene.rig.server.start()
    return hit


async def terminate_twice(scene: Scene) -> int:
    """SIGTERM again while the worker is draining, at a random moment of forking or storing."""
    worker = random.choice(scene.rig.workers)
    await until(lambda: worker.is_up and scene.rig.running(worker), BACK_S, f"{worker.name} is busy")
    hit, ended = scene.rig.running(worker), len(worker.exit_codes)
    for _ in range(2):
        with suppress(ProcessLookupError, AssertionError):
            worker.signal(signal.SIGTERM)
        await asyncio.sleep(random.uniform(0, 0.1))
    await until(lambda: len(worker.exit_codes) > ended, BACK_S, f"{worker.name} ends")
    assert worker.exit_codes[-1] == 0, f"{worker.name} ended with {worker.exit_codes[-1]}"
    return max(hit, 1)


# parts of the above


async def _a_frozen_program(scene: Scene) -> int:
    """Stop a program in its course, so that it cannot end before it is struck."""
    for _ in range(2000):
        for worker in random.sample(scene.rig.workers, 2):
            for pid in scene.rig.programs(worker) if worker.is_up else ():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    if state_of(pid) == "T" and name_of(pid).startswith("python"):
                        return pid
                    os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(0.005)
    raise NotHit("no program was running")


def _init_of(pid: int) -> int:
    """The init of the pid namespace that `pid` is in."""
    for each in children_of(parent_of(pid)):
        with suppress(OSError):
            if is_init(each) and os.readlink(f"/proc/{each}/ns/pid") == os.readlink(f"/proc/{pid}/ns/pid"):
                return each
    raise NotHit(f"program {pid} has no init")


FAULTS = (
    Fault("L01", "kill -9 a worker", kill_worker, strikes=6, in_ci=True, reruns=True),
    Fault("L02", "kill -9 a zygote or its jail", kill_jail, strikes=6, in_ci=True, reruns=True),
    Fault("L03a", "kill -9 a slot's init", kill_init, strikes=6, in_ci=True, reruns=True, exact=True),
    Fault("L03b", "kill -9 a program from outside", kill_program, strikes=6, in_ci=True, reruns=True, exact=True),
    Fault("L04", "kill -9 a gateway", kill_gateway, strikes=6, in_ci=True),
    Fault("L05", "kill -9 Redis, AOF everysec or always", kill_redis, strikes=5, in_ci=True),
    Fault("L06", "Redis restarted empty", empty_redis, strikes=2, loses_data=True),
    Fault("L08a", "worker-Redis partition, longer than the lease", partition_worker, strikes=3, reruns=True),
    Fault("L08b", "worker-Redis line cut, longer than the lease", cut_worker, strikes=3, reruns=True),
    Fault("L08c", "gateway-Redis partition or cut", partition_gateway, strikes=4),
    Fault("L08d", "SIGSTOP of a worker beyond its lease", freeze_worker, strikes=3, reruns=True),
    Fault("L09a", "Redis 100 to 500 ms slow", slow_redis, strikes=2),
    Fault("L09b", "CLIENT KILL of all connections", drop_connections, strikes=10, in_ci=True),
    Fault("L09c", "Redis out of memory", full_redis, strikes=3),
    Fault("L09d", "Redis takes no writes", readonly_redis, strikes=3),
    Fault("L09e", "SIGSTOP of Redis beyond the lease", freeze_redis, strikes=3),
    Fault("L11", "a third of 300 clients leaves", leave, strikes=3),
    Fault("L12a", "a call that kills its workers", poison, strikes=2, reruns=True),
    Fault(
        "L12b", "a call that loses its jail, then its worker", lose_jail_then_worker, strikes=2, in_ci=True, reruns=True
    ),
    Fault("L13", "100 times the same call at once", storm, strikes=3, in_ci=True),
    Fault("L15", "deadlines that pass in the queue", expire, strikes=3),
    Fault("L16a", "SIGTERM to every part in turn", roll, strikes=2),
    Fault("L16b", "SIGTERM to Redis and a new start", stop_redis, strikes=3),
    Fault("L17", "SIGTERM to a worker, twice", terminate_twice, strikes=4, in_ci=True),
    Fault("L19a", "no descriptors left to a worker", starve_worker, strikes=4, in_ci=True, spares=True),
    Fault("L19b", "no descriptors left to a gateway", starve_gateway, strikes=2),
    Fault("L19c", "no processes left to a worker's zygotes", refuse_forks, strikes=4, reruns=True, spares=True),
)
