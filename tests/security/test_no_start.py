"""A pool on a machine that has run out of what an execution needs: nothing is tried, and it recovers by itself."""

from __future__ import annotations

import errno
import os
from unittest import mock

import pytest

from sandbox_service.worker import jail, leaf, pool
from sandbox_service.worker.slots import CannotStart
from tests.conftest import WaitUntil
from tests.security.bench import Bench, bench

MISSING = os.strerror(errno.EMFILE)


def out_of_descriptors(*args: object, **kwargs: object) -> None:
    raise OSError(errno.EMFILE, MISSING)


async def runs(worker: Bench) -> str:
    return (await worker.run("print('ran')")).stdout


async def test_without_descriptors_no_attempt_is_made(wait_until: WaitUntil) -> None:
    """The call could not start, and the pool says so until there are descriptors again; the slot is whole."""
    async with bench() as worker:
        assert worker.pool.obstacle() is None
        with mock.patch.object(os, "pipe2", out_of_descriptors), pytest.raises(CannotStart, match=MISSING):
            await runs(worker)
        with mock.patch.object(pool, "_has_descriptors", return_value=False):
            assert MISSING in str(worker.pool.obstacle())
        assert MISSING in str(worker.pool.obstacle())  # for a moment: a lack of processes cannot be looked for
        await wait_until(lambda: worker.pool.obstacle() is None)
        assert await runs(worker) == "ran\n"


async def test_a_jail_that_ends_as_soon_as_it_is_ready_is_made_anew(wait_until: WaitUntil) -> None:
    """In the turn of the event loop in which it became ready; whoever waits for a slot gets one of the next jail."""
    async with bench() as worker:
        (lost,) = worker.pool._jails.values()
        start, ended = jail.Jail.start, []

        async def start_and_end(self: jail.Jail) -> None:
            await start(self)
            if not ended:
                ended.append(self)
                self.condemn("for the test")

        with mock.patch.object(jail.Jail, "start", start_and_end):
            lost.condemn("for the test")
            await wait_until(lambda: "as soon as it was ready" in str(worker.pool.obstacle()))
            await wait_until(lambda: worker.pool.obstacle() is None, timeout_s=20)
            assert await runs(worker) == "ran\n"


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (jail.Groups, "leaf"),
        (leaf.Leaf, "_open"),
        (jail.socket, "socketpair"),
        (jail.asyncio, "create_subprocess_exec"),
        (jail.Jail, "_attach_leaves"),
    ],
)
async def test_a_jail_that_does_not_start_is_tried_until_it_does(
    owner: object, step: str, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step of its start fails, nothing is left in the way of the next try, and no descriptor is lost."""
    monkeypatch.setattr(pool, "_RESTART_PAUSES_S", (0.0, 0.05))
    async with bench(slots=2) as worker:
        (lost,) = worker.pool._jails.values()
        before = len(os.listdir("/proc/self/fd"))
        with mock.patch.object(owner, step, side_effect=out_of_descriptors) as failing:
            lost.condemn("for the test")
            await wait_until(lambda: failing.call_count >= 3)
            assert MISSING in str(worker.pool.obstacle())
            with pytest.raises(CannotStart, match=MISSING):
                await runs(worker)
        await wait_until(lambda: worker.pool.obstacle() is None, timeout_s=20)
        assert await runs(worker) == "ran\n"
        await wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
