"""Strikes that clients make: they leave, they repeat themselves, they come too late."""

from __future__ import annotations

import asyncio
import random
import signal

import httpx

from loadtest import ledger as book
from sandbox_service.client import AsyncSandboxClient, Result, Retries, Status
from tests.chaos.rig import NotHit, until
from tests.chaos.scene import BACK_S, Scene

EXPIRY_S = 1.2
"""Long enough for the queue to take the calls: it refuses those that it would let expire."""


async def leave(scene: Scene) -> int:
    """Clients that go away at a random moment, among others that wait: nobody gets what was theirs."""
    before = scene.ledger.in_flight
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=64)) as http:
        tasks = [asyncio.create_task(_post(http, scene, number)) for number in range(300)]
        for task in random.sample(tasks, 100):
            asyncio.get_running_loop().call_later(random.uniform(0, 2), task.cancel)
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    left = sum(isinstance(answer, asyncio.CancelledError) for answer in answers)
    if not left:
        raise NotHit("every client was answered before it could leave")
    scene.remarks.append(f"{left} clients left of 300, beside {before} others")
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, (asyncio.CancelledError, httpx.HTTPError)):
            raise answer
    return left


async def _post(http: httpx.AsyncClient, scene: Scene, number: int) -> None:
    call_id = f"leave-{random.getrandbits(64):x}-{number}"
    call = book.make_call(call_id, pause_s=random.uniform(0, 0.5))
    url = random.choice(scene.rig.urls)
    # Without an id, so that leaving cancels at once: the expected value tells whose answer it is.
    answer = await http.post(
        f"{url}/v1/calls", json=call.model_dump(exclude={"id"}, exclude_defaults=True), timeout=BACK_S
    )
    if answer.status_code == httpx.codes.OK:
        printed = answer.json()["stdout"].split()[:1]
        assert printed == [book.expected(call_id)], f"{call_id} got a foreign answer: {printed}"


async def storm(scene: Scene) -> int:
    """100 requests at once with one id: one execution, equal answers; another body is refused."""
    hit = scene.waiting()
    call = scene.ledger.open()
    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=100)) as http:
        body = call.model_dump(exclude_defaults=True)
        posts = [http.post(f"{scene.rig.urls[n % 2]}/v1/calls", json=body, timeout=BACK_S) for n in range(100)]
        answers = await asyncio.gather(*posts)
        assert len({answer.content for answer in answers}) == 1, "one id, and different answers"
        other = await http.post(f"{scene.rig.urls[0]}/v1/calls", json=body | {"stdin": "other"}, timeout=BACK_S)
        assert other.status_code == httpx.codes.CONFLICT, other.text
    async with AsyncSandboxClient(scene.rig.urls[1]) as sdk:
        result = await sdk.get(str(call.id))
    assert result is not None
    scene.ledger.close(str(call.id), result)
    return hit


async def expire(scene: Scene) -> int:
    """Calls whose deadline passes while they are queued: `expired`, and none of them was ever started."""
    hit = scene.waiting()
    ids = [f"expire-{random.getrandbits(64):x}-{n}" for n in range(12)]
    frozen = scene.rig.workers
    async with AsyncSandboxClient(scene.rig.urls[0], retries=Retries(patience_s=0)) as sdk:
        for worker in frozen:
            hit += await scene.rig.freeze_busy(worker)  # for less than its lease
        try:
            calls = [book.make_call(each).model_copy(update={"timeout_s": EXPIRY_S}) for each in ids]
            asked = [asyncio.create_task(sdk.run(call)) for call in calls]
            await until(lambda: _known(scene, ids), BACK_S, "the queue has the calls")
            await asyncio.sleep(1.2 * EXPIRY_S)
        finally:
            for worker in frozen:
                worker.signal(signal.SIGCONT)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    expired = {each.id for each in outcomes if isinstance(each, Result) and each.status is Status.EXPIRED}
    if not expired:
        raise NotHit(f"no call had to wait for longer than its deadline: {outcomes[0]!r}")
    started = book.executions(scene.rig.worker_logs())
    assert not expired & set(started), "an expired call was started"
    scene.remarks.append(f"{len(expired)} of {len(ids)} expired, none of them started")
    return hit


def _known(scene: Scene, ids: list[str]) -> bool:
    with scene.rig.redis() as client:
        return client.exists(*(f"sandbox:call:default:{each}" for each in ids)) > 0
