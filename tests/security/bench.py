"""A worker's core in this process: a pool with one small jail, and with protections taken away on request.

Only tests can do this. A `Mutation` is applied to copies (the code that is mounted into the jail, the files of
deploy/) or to this process's own modules while the bench exists; the service has no switch for any of it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from sandbox_service.config import Settings, deploy_dir
from sandbox_service.models import Call, Job, Result
from sandbox_service.queue import Execution
from sandbox_service.worker import jail, pool, rootfs
from sandbox_service.worker.execution import Executor, Run
from sandbox_service.worker.nsjail import choose_id_range
from sandbox_service.worker.profiles import Profile, read_profiles
from sandbox_service.worker.slots import Slot
from tests.security.mutation import NOTHING, Mutation

TIMEOUT_S = 30.0
_settings = Settings()


class Bench:
    """Runs calls as the worker does, without a queue."""

    def __init__(self, pool: pool.Pool) -> None:
        self.pool = pool
        self._executor = Executor("bench", pool, _settings.image)
        self.last_slot: Slot | None = None

    async def run(self, code: str, **fields: Any) -> Result:
        call = Call(code=code, **fields)
        limits, lowered = _settings.resolve(call.limits)
        job = Job.model_construct(**{**dict(call), "id": "bench", "limits": limits, "lowered": lowered})
        payload = job.model_dump_json().encode()
        execution = Execution("bench", "bench", 1, payload, 0.0, 0.0, call.timeout_s or TIMEOUT_S)
        run = Run(execution, time.monotonic())
        result = await self._executor.execute(run)
        self.last_slot = run.slot
        return result

    @property
    def jail(self) -> int:
        """The process above all of its one jail, and above no other that a test may have."""
        (only,) = self.pool._jails.values()
        return only._process.pid

    def is_at_rest(self) -> bool:
        """Whether every slot is clean and waits for a call."""
        return all(jail.free.qsize() == jail.plan.slots for jail in self.pool._jails.values())


@asynccontextmanager
async def bench(mutation: Mutation = NOTHING, *, slots: int = 1) -> AsyncIterator[Bench]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-bench-")))
        folder.chmod(0o711)
        profiles = read_profiles(deploy_dir() / "profiles.toml", ("bare",))
        stack.enter_context(applied(mutation, folder / "deploy"))
        made = make_pool(folder, profiles, slots)
        try:
            await made.start()
            yield Bench(made)
        finally:
            await made.stop()


def make_pool(folder: Path, profiles: list[Profile], slots: int) -> pool.Pool:
    image = rootfs.load(_settings.image, _settings)
    ids = choose_id_range(Path("/proc/self/uid_map").read_text())
    return pool.Pool([image], profiles, slots, _settings.default_disk_mb, ids, folder)


@contextlib.contextmanager
def applied(mutation: Mutation, deploy: Path) -> Iterator[None]:
    """Take a protection away from every jail that starts in this block. `deploy` is made for the changed policy."""
    shutil.copytree(deploy_dir(), deploy)
    for edit in mutation.edits_of("deploy"):
        edit.apply(deploy.parent)
    copy_inside = pool.copy_inside

    def copy_changed(folder: Path) -> None:
        copy_inside(folder)
        for edit in mutation.edits_of("inside"):
            edit.apply(folder / "sandbox_service")

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(pool, "copy_inside", copy_changed))
        stack.enter_context(mock.patch.object(jail, "deploy_dir", return_value=deploy))
        for patch in mutation.patches:
            stack.enter_context(patch())
        yield
