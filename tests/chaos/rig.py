"""A service in parts, as a cluster runs it: Redis, two gateways, two workers, each of which may be killed.

What died is started again, as an orchestrator would. Between each part and Redis is a `Proxy`. The rig looks at the
real state of things (Redis's own records, /proc) and never asks the service.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import redis

from sandbox_service.embedded import EmbeddedServer, die_with
from sandbox_service.queue.keys import with_prefix
from tests.chaos.proxy import Proxy
from tests.e2e.processes import children_of, cpu_s, descendants_of, jails_below
from tests.e2e.running import cgroups_of

LEASE_S = 3.0
DRAIN_S = 5.0
SLOTS = 4
_READY_S = 60.0
_TICK_S = 0.05
_RESTART_S = 0.3
_KEYS = with_prefix("sandbox")


class NotHit(AssertionError):
    """A fault that struck nothing that was busy: the test shows nothing, so it fails."""


class Part:
    """One process of the service, which is started again whenever it ends."""

    def __init__(self, name: str, proxy: Proxy, folder: Path, **variables: str) -> None:
        self.name = name
        self.proxy = proxy
        self.log_path = folder / f"{name}.log"
        self.held = False
        """Not to be started again for now."""
        self.exit_codes: list[int] = []
        self._variables = {"SANDBOX_REDIS_URL": proxy.url, "SANDBOX_LOG_LEVEL": "debug", **variables}
        self._process: subprocess.Popen[bytes] | None = None
        self._died_at = 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} is down"
        return self._process.pid

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def start(self, **variables: str) -> None:
        self._variables |= variables
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sandbox_service", self.name.partition("-")[0]],
                env={**os.environ, **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def watch(self) -> None:
        """Note its end, and start it again after a moment."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self.exit_codes.append(code)
            self._process, self._died_at = None, time.monotonic()
        if self._process is None and not self.held and time.monotonic() > self._died_at + _RESTART_S:
            self.start()

    def stop(self) -> None:
        self.held = True
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(DRAIN_S + 10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def log_lines(self) -> Iterator[str]:
        if self.log_path.exists():
            with self.log_path.open(errors="replace") as log:
                yield from log


class _Lines:
    """A loop on a thread of its own for the proxies: while a strike looks through /proc, leases must not run out."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def stop(self) -> None:
        await self.run(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Rig:
    """`async with Rig(folder) as rig`: a ready service; `folder` must be short (unix sockets) and searchable."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.server = EmbeddedServer(folder / "data", folder / "redis.sock")
        self.proxies = [Proxy(folder / f"{name}.sock", self.server.socket_path) for name in ("g1", "g2", "w1", "w2")]
        self._lines = _Lines()
        self._ports = _free_ports(2)
        shared = {
            "SANDBOX_RUN_DIR": str(folder / "run"),
            "SANDBOX_PROFILES": "bare",
            "SANDBOX_SLOTS": str(SLOTS),
            "SANDBOX_LEASE_S": str(LEASE_S),
            "SANDBOX_DRAIN_S": str(DRAIN_S),
            **variables,
        }
        self.gateways = [
            Part(f"gateway-{n + 1}", self.proxies[n], folder, **shared, SANDBOX_PORT=str(port))
            for n, port in enumerate(self._ports)
        ]
        self.workers = [Part(f"worker-{n}", self.proxies[n + 1], folder, **shared) for n in (1, 2)]
        self._supervision: asyncio.Task[None] | None = None

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    @property
    def parts(self) -> list[Part]:
        return [*self.gateways, *self.workers]

    async def __aenter__(self) -> Rig:
        self.server.start()
        for proxy in self.proxies:
            await self._lines.run(proxy.start())
        self._supervision = asyncio.create_task(self._supervise())
        try:
            await self.until_ready()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._supervision is not None:
            self._supervision.cancel()
        for part in self.parts:
            if part.is_up:
                part.signal(signal.SIGCONT)
                part.signal(signal.SIGTERM)
        for part in self.parts:
            await asyncio.to_thread(part.stop)
        for proxy in self.proxies:
            await self._lines.run(proxy.stop())
        await self._lines.stop()
        self.server.stop()

    async def _supervise(self) -> None:
        while True:
            for part in self.parts:
                part.watch()
            await asyncio.sleep(_TICK_S)

    async def until_ready(self) -> None:
        """Wait until every gateway says that it can take calls, and every worker has its lease."""
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            await until(lambda: self._all_ready(http), _READY_S, "the service is ready")

    async def _all_ready(self, http: httpx.AsyncClient) -> bool:
        try:
            answers = [await http.get(f"{url}/readyz") for url in self.urls]
            leases = len(list(self.redis().scan_iter(f"{_KEYS['WORKER']}*")))
        except (httpx.HTTPError, redis.RedisError):
            return False
        return all(answer.status_code == httpx.codes.OK for answer in answers) and leases >= len(self.workers)

    # What is going on

    def redis(self) -> redis.Redis:
        """A client that goes straight to the server."""
        return redis.Redis.from_url(self.server.url, decode_responses=True)

    def running(self, worker: Part | None = None) -> int:
        """Calls that this worker (or any) has claimed and not finished, by Redis's own books."""
        count = 0
        with self.redis() as client:
            for lane in client.smembers(_KEYS["LANES"]):
                try:
                    consumers = client.xinfo_consumers(lane, "workers")
                except redis.ResponseError:  # removed just now, with nothing in it
                    continue
                for consumer in consumers:
                    if worker is None or f"-{worker.pid}-" in consumer["name"]:
                        count += consumer["pending"]
        return count

    def zygotes(self, worker: Part) -> list[int]:
        return [zygote for jail in jails_below(worker.pid) for zygote in children_of(jail)]

    def programs(self, worker: Part) -> list[int]:
        """The processes that run a call now, on this worker."""
        return [pid for zygote in self.zygotes(worker) for pid in children_of(zygote) if not is_init(pid)]

    def groups(self) -> list[str]:
        """The folders of all workers in all cgroup hierarchies."""
        return cgroups_of([path.name for path in (self.folder / "run" / "workers").iterdir()])

    def cpu_s(self) -> float:
        """CPU time that the whole service has used: its processes, and all programs by their groups' count."""
        pids = [part.pid for part in self.parts] + [self.server.pid]
        pids += [pid for part in self.workers for pid in descendants_of(part.pid)]
        used = 0.0
        for pid in pids:
            with suppress(OSError):
                used += cpu_s(pid)
        counters = [Path(folder, "cpuacct.usage") for folder in self.groups()]
        return used + sum(int(each.read_text()) / 1e9 for each in counters if each.exists())

    def worker_logs(self) -> Iterator[str]:
        for worker in self.workers:
            yield from worker.log_lines()

    # Harm

    async def freeze_busy(self, worker: Part) -> int:
        """Stop this worker at a moment when programs run on it; return how many calls it holds. NotHit if there is
        none."""
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            if worker.is_up and self.running(worker):
                worker.signal(signal.SIGSTOP)
                # Only now, when it can hand in nothing: a call that it holds may have ended, or not begun.
                if (hit := self.running(worker)) and self.programs(worker):
                    return hit
                worker.signal(signal.SIGCONT)
            await asyncio.sleep(0.01)
        raise NotHit(f"{worker.name} ran nothing")

    def kill_redis(self) -> int:
        """SIGKILL Redis; return how many calls were running."""
        hit = self.running()
        os.kill(self.server.pid, signal.SIGKILL)
        assert self.server._process is not None
        self.server._process.wait()
        if not hit:
            raise NotHit("no call was running when Redis was killed")
        return hit


def is_init(pid: int) -> bool:
    """Whether this process is pid 1 of a slot."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return bool(numbers) and numbers[-1] == "1"


def state_of(pid: int) -> str:
    """The state letter of a process (proc(5)); empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return ""


async def until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until a plain or async condition holds; AssertionError names it when time is up."""
    give_up = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < give_up, f"not within {timeout_s:.0f} s: {what}"
        await asyncio.sleep(_TICK_S)


def _free_ports(count: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(count)]
    try:
        for each in with_ports:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in with_ports]
    finally:
        for each in with_ports:
            each.close()
