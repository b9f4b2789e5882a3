"""The jails of one worker, one for each image and profile, kept alive; runs an execution in the fitting one."""

from __future__ import annotations

import asyncio
import marshal
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sandbox_service.inside
from sandbox_service import metrics
from sandbox_service.errors import SetupError
from sandbox_service.inside.frames import Flag
from sandbox_service.logs import get_logger
from sandbox_service.worker.cgroup import Groups
from sandbox_service.worker.evidence import Evidence
from sandbox_service.worker.jail import Jail, Plan
from sandbox_service.worker.kernel_log import KernelLog
from sandbox_service.worker.nsjail import IdRange
from sandbox_service.worker.profiles import Profile, choose, imported_names
from sandbox_service.worker.rootfs import Image
from sandbox_service.worker.slots import Bounds, CannotStart, JailLost, Slot

_FETCH_BOUNDS = Bounds(
    wall_s=10, cpu_s=10, memory_mb=64, output_bytes=64 << 20, processes=4, disk_mb=0, deadline=float("inf")
)
"""The worker's own limits for reading a call's files back, after the call's processes are gone."""
_SLOT_TIME_S = 30.0
_RESTART_PAUSES_S = (0.0, 0.5, 2.0, 5.0, 15.0)
_SHORTAGE_S = 1.0
"""How long a worker pauses at least that had no descriptor or no process for an execution."""
_DESCRIPTORS = 64
"""A worker that ran out of them goes on when it could open so many: one execution needs six."""

_log = get_logger("pool")


@dataclass(slots=True)
class Program:
    """What to run, as the child gets it."""

    code: str
    stdin: bytes
    args: list[str]
    env: dict[str, str]
    files: dict[str, bytes]
    fetch: list[str]
    show_last_value: bool
    seed: int | None
    loopback: bool

    def payload(self) -> bytes:
        # marshal goes one way only, from here to a child that has not started its program.
        job = (self.code, self.args, self.env, self.files, self.show_last_value, self.seed)
        return marshal.dumps((job, self.fetch))


class NotStarted(Exception):
    """The caller gave up before the program started."""


class Pool:
    """`run` may be called by as many tasks at once as there are slots; more wait for a slot."""

    def __init__(
        self,
        images: Sequence[Image],
        profiles: Sequence[Profile],
        slots: int,
        disk_mb: int,
        ids: IdRange,
        run_dir: Path,
    ) -> None:
        self.images = {image.name: image for image in images}
        self._profiles = {i.name: [p for p in profiles if p.fits(i.packages)] for i in images}
        self._served = frozenset(name for profile in profiles for name in profile.serves)
        self._choices: dict[tuple[str, frozenset[str]], Profile] = {}
        self._groups = Groups(run_dir.name, slots)
        self._code = run_dir / "code"
        self._jails: dict[tuple[str, str], Jail] = {}
        self._ready: dict[tuple[str, str], asyncio.Event] = {}
        self._plans = {
            (image.name, profile.name): Plan(number, image, profile, slots, disk_mb, ids, self._code)
            for number, (image, profile) in enumerate((i, p) for i in images for p in self._profiles[i.name])
        }
        self._tasks: set[asyncio.Task[None]] = set()
        self._shortage: str | None = None
        self._shortage_until = 0.0
        self._unstartable: dict[tuple[str, str], str] = {}
        """Jails that could not be made anew so far, and why."""
        self._stopping = False
        self._log = KernelLog()

    async def start(self) -> None:
        """Start all jails; SetupError if one of them does not start."""
        copy_inside(self._code)
        for key in self._plans:
            self._ready[key] = asyncio.Event()
        await asyncio.gather(*(self._start(key) for key in self._plans))

    async def stop(self) -> None:
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(jail.stop() for jail in self._jails.values()))
        self._groups.remove()
        self._log.close()
        shutil.rmtree(self._code, ignore_errors=True)

    async def _start(self, key: tuple[str, str]) -> None:
        jail = Jail(self._plans[key], self._groups, self._log, lambda lost: self._replace(key, lost))
        await jail.start()
        if jail.lost:  # in the very turn in which it became ready: `_replace` did not know it yet
            await jail.stop()
            raise SetupError(f"jail {self._plans[key].name} ended as soon as it was ready")
        self._jails[key] = jail
        self._unstartable.pop(key, None)
        self._ready[key].set()

    def _replace(self, key: tuple[str, str], lost: Jail) -> None:
        if self._stopping or self._jails.get(key) is not lost:
            return
        self._ready[key].clear()
        task = asyncio.create_task(self._restart(key, lost))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart(self, key: tuple[str, str], lost: Jail) -> None:
        await lost.stop()
        failures = 0
        while True:
            await asyncio.sleep(_RESTART_PAUSES_S[min(failures, len(_RESTART_PAUSES_S) - 1)])
            try:
                await self._start(key)
            except SetupError as error:
                failures += 1
                self._unstartable[key] = error.message
                self._ready[key].set()  # nobody waits for it any longer
                _log.error("a jail cannot be started again", jail=self._plans[key].name, error=error.message)
            else:
                metrics.JAILS_RESTARTED.inc()
                return

    @property
    def kinds(self) -> list[tuple[str, Profile]]:
        """Every image and profile that a call can run in."""
        return [(plan.image.name, plan.profile) for plan in self._plans.values()]

    def obstacle(self) -> str | None:
        """Return why an execution could not start now, which is no fault of its own; None if nothing is known."""
        if self._shortage is not None and time.monotonic() >= self._shortage_until and _has_descriptors():
            self._shortage = None
        without = (self._missing_jail(image) for image in self.images)
        return self._shortage or next((why for why in without if why is not None), None)

    def _missing_jail(self, image: str) -> str | None:
        """Why no jail of this image can be had: not while one is there, or is being made anew for the first time."""
        keys = [key for key in self._plans if key[0] == image]
        if any(key in self._jails and not self._jails[key].lost for key in keys):
            return None
        return next((self._unstartable[key] for key in keys if key in self._unstartable), None)

    def choose_profile(self, code: str, image: str) -> Profile:
        """Return the profile to run `code` in: the smallest one of this image that has what it imports."""
        return self._choose(image, self._served.intersection(imported_names(code)))

    def _choose(self, image: str, names: frozenset[str]) -> Profile:
        # SECURITY: names that no profile serves are left out, so there are few keys, whatever is imported.
        found = self._choices.get((image, names))
        if found is None:
            found = self._choices[image, names] = choose(self._profiles[image], names)
        return found

    async def run(
        self, program: Program, image: str, profile: Profile, bounds: Bounds, may_start: Callable[[Slot], bool]
    ) -> tuple[Evidence, bytes]:
        """Run `program`; return the evidence and, if it names files to fetch, their stream (`inside/fetch.py`).

        `may_start` is asked with the slot just before the program starts in it. Raise NotStarted if it says no,
        CannotStart if this machine cannot now, JailLost if the jail is lost while the program is in it.
        """
        jail, slot = self._take_now(image, profile) or await self._take(image, profile)
        if not may_start(slot):
            jail.free.put_nowait(slot)
            raise NotStarted
        flags = Flag.LOOPBACK if program.loopback else Flag.NONE
        payload = program.payload()
        try:
            if program.fetch:
                flags |= Flag.KEEP_FILES
            try:
                evidence = await slot.run(payload, program.stdin, bounds, flags)
            except CannotStart as error:
                self._shortage, self._shortage_until = str(error), time.monotonic() + _SHORTAGE_S
                raise
            if not program.fetch:
                return evidence, b""
            await slot.wait_clean()
            # Files are memory of the call, so its own limit may be used up.
            memory_mb = bounds.memory_mb + _FETCH_BOUNDS.memory_mb
            reading = replace(_FETCH_BOUNDS, disk_mb=bounds.disk_mb, memory_mb=memory_mb)
            try:
                fetched = await slot.run(payload, b"", reading, Flag.FETCH)
            except CannotStart as error:
                raise JailLost(str(error)) from error  # the program has run
            return evidence, fetched.stdout
        finally:
            jail.take_back(slot)

    def _take_now(self, image: str, profile: Profile) -> tuple[Jail, Slot] | None:
        """Take a free slot if there is one, which is almost always: there are as many as executions."""
        jail = self._jails.get((image, profile.name))
        if jail is None or jail.lost or jail.free.empty():
            return None
        return jail, jail.free.get_nowait()

    async def _take(self, image: str, profile: Profile) -> tuple[Jail, Slot]:
        try:
            async with asyncio.timeout(_SLOT_TIME_S):
                return await self._wait_for_slot(image, profile)
        except TimeoutError as error:
            raise CannotStart(f"no slot became free within {_SLOT_TIME_S:.0f} s") from error

    async def _wait_for_slot(self, image: str, profile: Profile) -> tuple[Jail, Slot]:
        """Wait for a free slot; when a jail is lost meanwhile, for one of another jail."""
        while True:
            jail = await self._jail(image, profile)
            slot = await jail.free.get()
            if not jail.lost:
                return jail, slot
            jail.free.put_nowait(slot)  # for the next one who waits at this dead jail
            await asyncio.sleep(0)

    async def _jail(self, image: str, profile: Profile) -> Jail:
        """Return the jail of this profile; while it is being made anew, one of another profile serves as well."""
        while True:
            for name in (profile.name, *(plan.profile.name for plan in self._plans.values())):
                if (jail := self._jails.get((image, name))) is not None and not jail.lost:
                    return jail
            if (why := self._missing_jail(image)) is not None:
                raise CannotStart(why)
            await self._ready[image, profile.name].wait()
            await asyncio.sleep(0)  # an event that is set already would not let anybody else run


def _has_descriptors() -> bool:
    """Whether this process could open as many as it should have left."""
    opened: list[int] = []
    try:
        while len(opened) < _DESCRIPTORS:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return True


def copy_inside(folder: Path) -> None:
    """Copy the code that runs in the jail to where the jail's user may read it; a checkout may be under a 0700 home."""
    package = folder / "sandbox_service"
    source = Path(sandbox_service.inside.__file__).parent
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, package / "inside", ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__init__.py").touch()
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
