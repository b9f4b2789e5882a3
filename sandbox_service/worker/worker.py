"""The worker: claims calls from the queue, runs them in its pool's slots, and stores their Results.

Invariants:
- it never holds more executions than it has slots, so that no call waits here while another worker is idle;
- every execution it claims ends in `finish` or `release`, also when the worker drains; what a bug in here loses
  is given up, and taken back like what its lease no longer covers after a kill;
- it claims nothing before every jail has passed its self-test, nor while none can start: what it claimed then goes back
  to the queue, and the attempt is not counted.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client import start_http_server

from sandbox_service import garbage, logs, metrics
from sandbox_service.config import Settings, deploy_dir
from sandbox_service.errors import SetupError, Unavailable
from sandbox_service.queue import MAX_ATTEMPTS, Execution, Queue
from sandbox_service.worker import rootfs
from sandbox_service.worker.execution import Executor, Run
from sandbox_service.worker.leftovers import claim_folder, remove_leftovers
from sandbox_service.worker.nsjail import choose_id_range
from sandbox_service.worker.pool import Pool
from sandbox_service.worker.profiles import read_profiles
from sandbox_service.worker.selftest import check_before_serving, check_pool
from sandbox_service.worker.slots import CannotStart, JailLost

_CLAIM_WAIT_S = 5.0
_CANARY_PAUSE_S = 30.0
_RETRY_PAUSE_S = 0.25
"""What cost the first attempt its jail may be about to cost others theirs."""
_LOOK_S = 0.25
"""So often a worker that claims nothing looks whether it could."""
_ROUND_BYTES = 8 << 20
"""Results go to the queue together up to about this size: it does nothing else while it takes them."""
_PARTING_S = 2.0
"""A worker that stops tries for this long to tell a queue that does not answer; leases do the rest."""

_log = logs.get_logger("worker")


class Worker:
    def __init__(self, name: str, queue: Queue, pool: Pool, executor: Executor, slots: int) -> None:
        self._name = name
        self._queue = queue
        self._pool = pool
        self._executor = executor
        self._slots = slots
        self._running: dict[tuple[str, str], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: asyncio.Queue[tuple[Execution, bytes, float]] = asyncio.Queue()
        self._slot_free = asyncio.Event()

    async def claim_calls(self) -> None:
        """Claim as many calls as slots are free, again and again."""
        while True:
            if (why := self._pool.obstacle()) is not None:
                await self._pause(why)
            free = self._slots - len(self._tasks)
            if free <= 0:
                self._slot_free.clear()
                await self._slot_free.wait()
                continue
            for execution in await self._queue.claim(self._name, free, wait_s=_CLAIM_WAIT_S):
                self._start(execution)

    async def _pause(self, why: str) -> None:
        """Claim nothing until executions can start here again: calls go to other workers, or wait."""
        _log.error("claims no calls: it could not start them", why=why)
        metrics.PAUSED.set(1)
        self._queue.announce(slots=0)
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._pool.obstacle() is None:
                break
        self._queue.announce(slots=self._slots)
        metrics.PAUSED.set(0)
        _log.warning("claims calls again")

    def _start(self, execution: Execution) -> None:
        metrics.QUEUE_WAIT.observe(execution.queued_s)
        run = Run(execution, time.monotonic())
        self._running[execution.tenant, execution.id] = run
        task = asyncio.create_task(self._execute(run))
        self._tasks.add(task)
        task.add_done_callback(functools.partial(self._ended, run))
        metrics.SLOTS_BUSY.set(len(self._tasks))

    async def _execute(self, run: Run) -> None:
        """Make attempts until one ends otherwise than by a fault of ours, or was the last."""
        key = (run.execution.tenant, run.execution.id)
        try:
            result = await self._executor.execute(run)
            while result.retryable and run.execution.attempt < MAX_ATTEMPTS:
                await asyncio.sleep(_RETRY_PAUSE_S)
                if not await self._begin_again(run):
                    self._queue.give_up([run.execution])
                    return
                metrics.SECOND_ATTEMPTS.inc()
                result = await self._executor.execute(run)
        except CannotStart as error:
            _log.warning("a call could not start and goes back", call=run.execution.id, why=str(error))
            await self._queue.release(self._name, [run.execution])
            return
        finally:
            if self._running.get(key) is run:
                del self._running[key]
        metrics.RESULTS.labels(result.status.value).inc()
        self._done.put_nowait((run.execution, result.model_dump_json().encode(), run.cpu_s))

    async def _begin_again(self, run: Run) -> bool:
        """Start the next attempt here, if the queue lets us. It hears of it first: should this worker be lost in that
        attempt too, the call has had all it may have."""
        asking = asyncio.create_task(self._queue.retry(self._name, run.execution))
        try:
            # Cancelled meanwhile: a drain gives back the attempt that the queue knows of.
            await asyncio.shield(asking)
        except Unavailable as error:
            _log.warning("a call is given up: the queue is away", call=run.execution.id, **logs.fault(error))
            return False
        finally:
            await asyncio.wait([asking], timeout=_PARTING_S)
            if not asking.cancel() and asking.exception() is None:
                run.execution = asking.result() or run.execution
        return asking.result() is not None

    def _ended(self, run: Run, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slot_free.set()
        metrics.SLOTS_BUSY.set(len(self._tasks))
        if task.cancelling():
            return  # the drain gives it back
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            _log.error("an execution was lost; its call is taken back", call=run.execution.id, **logs.fault(error))
            self._queue.give_up([run.execution])

    async def store_results(self) -> None:
        """Store what is done; whatever ends during one round trip goes with the next."""
        while True:
            ended = [await self._done.get()]
            size = len(ended[0][1])
            while not self._done.empty() and size < _ROUND_BYTES:
                ended.append(self._done.get_nowait())
                size += len(ended[-1][1])
            results = [(execution, result) for execution, result, _ in ended]
            try:
                stored = await self._queue.finish(self._name, results, cpu_s=[cpu_s for _, _, cpu_s in ended])
            except Unavailable as error:
                _log.error("results were lost; their calls will run again", count=len(results), **logs.fault(error))
            else:
                metrics.STALE_RESULTS.inc(stored.count(False))
            for _ in results:
                self._done.task_done()

    async def cancel_calls(self) -> None:
        async for key in self._queue.cancellations(self._name):
            if (run := self._running.get(key)) is not None:
                run.cancel()

    async def recover_calls(self, lease_s: float) -> None:
        """Take back what dead workers held; jittered, so that workers do not all look at once."""
        while True:
            await asyncio.sleep(lease_s * random.uniform(0.3, 0.7))  # noqa: S311
            with suppress(Unavailable):
                if taken := await self._queue.recover():
                    _log.warning("took back executions of lost workers", count=taken)

    async def watch_isolation(self) -> None:
        """Run the self-test now and then, in one slot of each jail; SetupError ends this worker.

        It also keeps idle jails' pages in memory: a kernel that reclaims early makes the first call after a pause
        twice as slow.
        """
        while True:
            await asyncio.sleep(_CANARY_PAUSE_S)
            try:
                await check_pool(self._pool, slots=1)
            except JailLost:
                continue  # it is being made anew, or got no CPU: no layer is missing
            except SetupError:
                metrics.CANARY_FAILURES.inc()
                raise
            metrics.CANARY_PASSED.set_to_current_time()

    async def drain(self, patience_s: float) -> None:
        """Let what is running end; kill and give back what does not end in time. Raise TimeoutError if the queue
        is away, or Unavailable."""
        if self._tasks and patience_s:
            await asyncio.wait(self._tasks, timeout=patience_s)
        runs = list(self._running.values())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        left = [run.execution for run in runs]
        async with asyncio.timeout(_PARTING_S):
            if left:
                for execution in left:
                    _log.debug("execution given back", call=execution.id, attempt=execution.attempt)
                await self._queue.release(self._name, left)
            await self._done.join()


def serve(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT. Raise SetupError if this machine cannot run calls safely."""
    import uvloop

    logs.configure(settings.log_level)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    if settings.redis_url is None:
        raise SetupError("a worker needs SANDBOX_REDIS_URL; `sandbox-service serve` brings a server of its own")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    run_dir = settings.run_dir / "workers" / name
    remove_leftovers(settings.run_dir / "workers")
    claim_folder(run_dir)
    slots = settings.slot_count
    pool = make_pool(settings, slots, run_dir)
    try:
        await _until(stop, pool.start())
        await _until(stop, check_before_serving(pool, slots))
        if not stop.is_set():
            await _work(settings, name, pool, slots, stop)
    finally:
        await pool.stop()
        shutil.rmtree(run_dir)
    _log.info("worker stopped", worker=name)


def make_pool(settings: Settings, slots: int, run_dir: Path) -> Pool:
    names = {settings.image, *(image.name for image in rootfs.list_images(settings))}
    images = [rootfs.load(name, settings) for name in sorted(names)]
    profiles = read_profiles(deploy_dir() / "profiles.toml", settings.profiles)
    try:
        ids = choose_id_range(Path("/proc/self/uid_map").read_text())
    except ValueError as error:
        raise SetupError(f"{error}; run `sandbox-service doctor`") from error
    return Pool(images, profiles, slots, settings.default_disk_mb, ids, run_dir)


async def _work(settings: Settings, name: str, pool: Pool, slots: int, stop: asyncio.Event) -> None:
    queue = await Queue.connect(settings)
    worker = Worker(name, queue, pool, Executor(name, pool, settings.image), slots)
    if settings.worker_metrics_port:
        start_http_server(settings.worker_metrics_port, settings.worker_metrics_host, metrics.WORKER)
    metrics.SLOTS.set(slots)
    python = pool.images[settings.image].python_version
    await queue.join(name, {image.name: image.hash for image in pool.images.values()}, slots=slots, python=python)
    garbage.settle()
    _log.info("worker ready", worker=name, slots=slots, images=sorted(pool.images))
    claiming = asyncio.create_task(worker.claim_calls())
    others = [
        asyncio.create_task(each)
        for each in (
            worker.store_results(),
            worker.cancel_calls(),
            worker.recover_calls(settings.lease_s),
            worker.watch_isolation(),
        )
    ]
    try:
        await asyncio.wait([claiming, *others, asyncio.create_task(stop.wait())], return_when=asyncio.FIRST_COMPLETED)
        _log.info("worker stopping", worker=name, running=len(worker._running))
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        # When it was not asked to stop, a part of it has failed: what runs now is given back, not answered.
        with suppress(TimeoutError):
            await worker.drain(settings.drain_s if stop.is_set() else 0)
    finally:
        for task in others:
            task.cancel()
        outcomes = await asyncio.gather(claiming, *others, return_exceptions=True)
        with suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(_PARTING_S):
                await queue.leave(name)
                await queue.close()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, but not past a request to stop."""
    task = asyncio.create_task(work)
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError):
        await task
