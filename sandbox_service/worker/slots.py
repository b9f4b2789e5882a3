"""A slot as the worker sees it: runs one execution at a time and gathers the evidence of it.

Owns the clocks. Wall time, CPU time, output and the caller's deadline are all watched here, outside the jail; the
only thing asked of the zygote is to kill. A slot that does not answer in time condemns its whole jail.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import math
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from sandbox_service import metrics
from sandbox_service.inside.frames import Doubt, Flag, Frame, Kind, Step
from sandbox_service.models import HARD_OUTPUT_FACTOR
from sandbox_service.worker import schedstat
from sandbox_service.worker.capture import Capture
from sandbox_service.worker.evidence import Evidence, Kill
from sandbox_service.worker.kernel_log import KernelLog
from sandbox_service.worker.leaf import Before, Leaf

_UNDRAINED_S = 0.02
"""Most programs end within this time, on a busy machine too, and fit a pipe: their output is read once, at the end."""
_SHORTEST_TICK_S = 0.002
_PIECE = 4096
_GATHER_S = 0.002
"""Output that comes in smaller pieces than this is left alone for so long, to gather in its pipe: what writes byte by
byte must not take the worker's time from others (tests/security: `test_a_flood_byte_by_byte_leaves...`)."""
_KILL_TIME_S = 20.0
"""A kill that is not followed by an exit within this time means that the jail is broken. Its neighbours pay for that:
250 processes with page tables of a GiB take the kernel 2.5 s on an idle machine, and more on a busy one."""
_LEAVING_PAUSE_S, _LEAVING_TIME_S = 0.01, 20.0
"""A killed process leaves its group, and its memory is freed, some time after its end was seen."""
_CHARGED_AHEAD = 1 << 20
"""The kernel charges memory in batches, so that a group can be at its limit a little below it."""
_CPUS = len(os.sched_getaffinity(0))


class JailLost(Exception):
    """The jail ended or stopped answering while an execution was in it. Our fault, never the program's."""


class CannotStart(JailLost):
    """This machine has no descriptor or process for it, or no jail, and not a byte of the program has run."""


@dataclass(frozen=True)
class Bounds:
    """The limits of one execution, resolved; `deadline` is on the monotonic clock."""

    wall_s: float
    cpu_s: float
    memory_mb: int
    output_bytes: int
    processes: int
    disk_mb: int
    deadline: float


class Slot:
    """At most one execution at a time; the next one may start once the slot is clean."""

    def __init__(
        self,
        index: int,
        owner: int,
        leaf: Leaf,
        log: KernelLog,
        send: Callable[[Frame, list[int]], None],
        condemn: Callable[[str], None],
    ) -> None:
        self.index = index
        self.leaf = leaf
        self._owner = owner
        self._log = log
        self._send = send
        self._condemn = condemn
        self._epoch = 0
        self._exited: asyncio.Future[Frame] | None = None
        self._cleaned: asyncio.Future[Frame] | None = None
        self._watch: _Watch | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, payload: bytes, stdin: bytes, bounds: Bounds, flags: Flag) -> Evidence:
        """Run one payload to its end. Raise JailLost if the jail does not live to see it.

        The slot may be used again when it is clean (`wait_clean`, `when_clean`).
        """
        loop = asyncio.get_running_loop()
        self._epoch += 1
        self._exited, self._cleaned = loop.create_future(), loop.create_future()
        with ExitStack() as stack:
            try:
                stdout, stderr = (Capture(self._owner, bounds.output_bytes, stack) for _ in range(2))
                before = self.leaf.begin(bounds.memory_mb, bounds.processes)
                sent_at = time.monotonic()
                self._order(payload, stdin, bounds, flags, stdout, stderr)
            except OSError as error:
                self._cleaned.set_result(Frame(Kind.CLEANED, self.index))  # nothing has run: as clean as it was
                lost = CannotStart if error.errno in (errno.EMFILE, errno.ENFILE) else JailLost
                raise lost(f"slot {self.index} could not be prepared: {error}") from error
            watch = self._watch = _Watch(self, bounds, before, [stdout, stderr], self.kill)
            stack.callback(watch.stop)
            frame = await self._exited
            watch.stop()
            if frame.step == Step.FORKED and frame.errno == errno.EAGAIN:
                raise CannotStart(f"slot {self.index} got no process")
            for capture in (stdout, stderr):
                capture.drain()
            evidence = self._evidence(frame, watch, before, stdout, stderr, sent_at)
        if os.WIFSIGNALED(frame.value) and os.WTERMSIG(frame.value) == signal.SIGSYS:
            since = time.time() - (time.monotonic() - sent_at)
            refused = await self._log.call_that_ended(watch.pid, self._owner, since)
            return evidence._replace(refused_call=refused)
        return evidence

    def _evidence(
        self, frame: Frame, watch: _Watch, before: Before, stdout: Capture, stderr: Capture, sent_at: float
    ) -> Evidence:
        after = self.leaf.counters()
        # What the kernel had cached for earlier calls is not this call's; at the limit it has made room for this one.
        limit = watch.bounds.memory_mb << 20
        at_limit = after.memory_peak is not None and after.memory_peak > limit - _CHARGED_AHEAD
        baseline = 0 if at_limit else before.memory
        return Evidence(
            wait_status=frame.value,
            step=frame.step,
            errno=frame.errno,
            kill=watch.reason,
            oom_kills=after.oom_kills - before.oom_kills,
            cpu_s=after.cpu_s - before.cpu_s,
            descheduled_s=max(frame.run_delay_ns / 1e9, watch.descheduled_s) if schedstat.is_counted() else None,
            memory_peak=None if after.memory_peak is None else max(0, after.memory_peak - baseline),
            stdout=stdout.kept,
            stderr=stderr.kept,
            stdout_truncated=stdout.truncated,
            stderr_truncated=stderr.truncated,
            flooded=any(watch.is_flooded(capture) for capture in (stdout, stderr)),
            sent_at=sent_at,
            started_at=watch.started_at or sent_at,
            exited_at=frame.when_ns / 1e9 or time.monotonic(),
        )

    def _order(
        self, payload: bytes, stdin: bytes, bounds: Bounds, flags: Flag, stdout: Capture, stderr: Capture
    ) -> None:
        with ExitStack() as stack:
            descriptors = [_memory_file("payload", payload, stack), stdout.write_fd, stderr.write_fd]
            if stdin:
                flags |= Flag.STDIN
                descriptors.append(_memory_file("stdin", stdin, stack, seal=True))
            cpu_s = math.ceil(bounds.cpu_s)
            frame = Frame(Kind.RUN, self.index, self._epoch, flags, bounds.disk_mb, cpu_s, size=len(payload))
            self._send(frame, descriptors)
        stdout.close_write_end()
        stderr.close_write_end()

    def kill(self, reason: Kill) -> None:
        """Have the program killed, if it still runs; the first reason counts."""
        if self._watch is None or self._exited is None or self._exited.done():
            return
        if self._watch.note_kill(reason):
            self._send(Frame(Kind.KILL, self.index, self._epoch), [])

    async def wait_clean(self) -> None:
        """Wait until the slot is verified clean, or was replaced by a new one."""
        assert self._cleaned is not None
        await self._cleaned

    def when_clean(self, then: Callable[[], None]) -> None:
        """Call `then` once the slot is clean and its group unused; never if the jail is lost."""
        assert self._cleaned is not None
        self._cleaned.add_done_callback(lambda cleaned: self._verify(cleaned, then))

    def _verify(self, cleaned: asyncio.Future[Frame], then: Callable[[], None]) -> None:
        if cleaned.cancelled() or cleaned.exception() is not None:
            return
        if self.leaf.is_unused():
            then()
        else:
            task = asyncio.create_task(self._wait_until_unused(then))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wait_until_unused(self, then: Callable[[], None]) -> None:
        """Wait for what is on its way out, and have the rest reclaimed; a thread waits for that, not our clocks."""
        until = time.monotonic() + _LEAVING_TIME_S
        await asyncio.sleep(_LEAVING_PAUSE_S)
        while not self.leaf.is_unused():
            if time.monotonic() > until:
                self._condemn(f"slot {self.index} holds processes or memory of a call that is over")
                return
            await asyncio.to_thread(self.leaf.reclaim)
            await asyncio.sleep(_LEAVING_PAUSE_S)
        then()

    def receive(self, frame: Frame) -> None:
        """Take a frame that the zygote sent for this slot; one of an earlier execution is ignored."""
        if frame.epoch != self._epoch:
            return
        if frame.kind == Kind.STARTED and self._watch is not None:
            self._watch.start(frame.when_ns / 1e9, frame.value)
        elif frame.kind == Kind.EXITED:
            _resolve(self._exited, frame)
        elif frame.kind == Kind.CLEANED:
            if frame.value:
                metrics.SLOTS_RETIRED.labels(Doubt(frame.value).name.lower()).inc()
            _resolve(self._cleaned, frame)

    def lose(self, error: JailLost) -> None:
        for future in (self._exited, self._cleaned):
            if future is not None and not future.done():
                future.set_exception(error)
                future.exception()  # whoever still waits gets it; nobody has to
        if self._watch is not None:
            self._watch.stop()

    def stuck(self) -> None:
        self._condemn(f"slot {self.index} did not end within {_KILL_TIME_S} s of being killed")


class _Watch:
    """The clocks of one execution, from the fork to the exit: one timer, re-armed for whatever is due next."""

    def __init__(
        self, slot: Slot, bounds: Bounds, before: Before, captures: list[Capture], kill: Callable[[Kill], None]
    ) -> None:
        self.started_at: float | None = None
        self.pid = 0
        self.reason: Kill | None = None
        self.descheduled_s = 0.0
        """Of the thread that waited longest, when the wall limit was hit; the zygote tells the main thread's alone."""
        self._slot = slot
        self.bounds = bounds
        self._before = before
        self._captures = captures
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._draining: list[Capture] = []
        # Even the fork has to come in time: a zygote that does not answer is no reason to wait for ever.
        self._timer = self._loop.call_later(bounds.wall_s + _KILL_TIME_S, self._slot.stuck)

    def start(self, at: float, pid: int) -> None:
        self.started_at, self.pid = at, pid
        self._timer.cancel()
        self._timer = self._loop.call_later(_UNDRAINED_S, self._tick)

    def note_kill(self, reason: Kill) -> bool:
        """Remember why, and how long the exit may take from now on; False if a kill is already under way."""
        if self.reason is not None:
            return False
        self.reason = reason
        self._timer.cancel()
        self._timer = self._loop.call_later(_KILL_TIME_S, self._slot.stuck)
        return True

    def stop(self) -> None:
        self._timer.cancel()
        for capture in self._draining:
            self._loop.remove_reader(capture.fd)
        self._draining = []

    def _tick(self) -> None:
        if not self._draining:
            self._start_draining()
        if self.reason is not None:
            return
        now = time.monotonic()
        exceeded, due = self._check(now)
        if exceeded is not None:
            if exceeded is Kill.WALL:
                self.descheduled_s = self._slot.leaf.descheduled_s()
            self._kill(exceeded)
        else:
            self._timer = self._loop.call_later(max(due - now, _SHORTEST_TICK_S), self._tick)

    def _check(self, now: float) -> tuple[Kill | None, float]:
        """Return the limit that is exceeded, if any, and when to look again."""
        assert self.started_at is not None
        wall_end = self.started_at + self.bounds.wall_s
        cpu_left = self.bounds.cpu_s - (self._slot.leaf.cpu_s() - self._before.cpu_s)
        due = min(wall_end, self.bounds.deadline, now + cpu_left / _CPUS)
        if cpu_left <= 0:
            return Kill.CPU, due
        if now >= wall_end:
            return Kill.WALL, due
        if now >= self.bounds.deadline:
            return Kill.DEADLINE, due
        return None, due

    def is_flooded(self, capture: Capture) -> bool:
        return capture.total > self.bounds.output_bytes * HARD_OUTPUT_FACTOR

    def _start_draining(self) -> None:
        for capture in self._captures:
            self._draining.append(capture)
            self._loop.add_reader(capture.fd, self._drain, capture)

    def _drain(self, capture: Capture) -> None:
        before = capture.total
        capture.drain()
        if self.is_flooded(capture):
            self._kill(Kill.OUTPUT)
        if capture not in self._draining:
            return
        if capture.at_end:
            # The exit frame comes later than the end of the pipe: a reader left registered would spin until then.
            self._loop.remove_reader(capture.fd)
            self._draining.remove(capture)
        elif capture.total - before < _PIECE:
            self._loop.remove_reader(capture.fd)
            self._loop.call_later(_GATHER_S, self._drain_on, capture)

    def _drain_on(self, capture: Capture) -> None:
        if capture in self._draining:
            self._loop.add_reader(capture.fd, self._drain, capture)


def _memory_file(name: str, content: bytes, stack: ExitStack, *, seal: bool = False) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, fd)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    if seal:
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def _resolve(future: asyncio.Future[Frame] | None, frame: Frame) -> None:
    if future is not None and not future.done():
        future.set_result(frame)
