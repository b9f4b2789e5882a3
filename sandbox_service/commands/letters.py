"""`dead-letters`: calls that lost their worker twice, to be looked at and run again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from sandbox_service.config import Settings
from sandbox_service.embedded import socket_of
from sandbox_service.errors import NotFound, ServiceFault, SetupError
from sandbox_service.models import Job
from sandbox_service.queue import DeadLetter, Queue, Submission

_SHOWN = 1000


def list_letters(settings: Settings, *, tenant: str | None, as_json: bool) -> int:
    async def work(queue: Queue) -> None:
        letters = [each for each in await queue.letters.latest(_SHOWN) if tenant in (None, each.tenant)]
        if as_json:
            print(json.dumps([_described(each) for each in letters], indent=1))
            return
        for each in letters:
            print(f"{each.letter}  {_when(each)}  {each.tenant}/{each.id}  {len(each.payload)} bytes  on {each.worker}")
        if not letters:
            print("no dead letters")

    return _with_queue(settings, work)


def show(settings: Settings, letter: str) -> int:
    async def work(queue: Queue) -> None:
        found = await _find(queue, letter)
        call = json.loads(found.payload) if found.payload else None
        print(json.dumps({**_described(found), "call": call}, indent=1))

    return _with_queue(settings, work)


def replay(settings: Settings, letters: Sequence[str], *, everything: bool) -> int:
    """Run letters again, each as a new call of its tenant, and remove them; print the new ids."""

    async def work(queue: Queue) -> None:
        wanted = await queue.letters.latest(_SHOWN) if everything else [await _find(queue, each) for each in letters]
        for each in wanted:
            if not each.payload:
                if not everything:
                    raise NotFound(f"letter {each.letter} holds no call: it was too large to be kept ({each.digest})")
                print(f"{each.letter}: left, it holds no call")
                continue
            submission = _again(each, settings)
            await queue.submit(each.tenant, [submission], notify="replay")
            await queue.letters.remove(each.letter)
            print(f"{each.letter}: runs again as {each.tenant}/{submission.id}")

    return _with_queue(settings, work)


def _again(letter: DeadLetter, settings: Settings) -> Submission:
    """Return the call of this letter under a new id; its labels say which one it repeats."""
    try:
        job = Job.model_validate_json(letter.payload)
    except ValidationError as error:
        raise ServiceFault(f"letter {letter.letter} holds no call of this version: {error}") from error
    labels = {**job.labels, "replay_of": letter.id}
    job = job.model_copy(update={"id": secrets.token_hex(16), "labels": labels})
    payload = job.model_dump_json(exclude_defaults=True).encode()
    return Submission(
        id=job.id,
        payload=payload,
        digest=hashlib.sha256(payload).hexdigest(),
        image=job.image or settings.image,
        priority=job.priority,
        labels=labels,
        timeout_s=job.timeout_s or settings.default_timeout_s,
        age_s=0,
        keep=True,
    )


async def _find(queue: Queue, letter: str) -> DeadLetter:
    found = await queue.letters.get(letter)
    if found is None:
        raise NotFound(f"no dead letter {letter!r}; `sandbox-service dead-letters list` names them")
    return found


def _described(letter: DeadLetter) -> dict[str, object]:
    return {
        "letter": letter.letter,
        "at": _when(letter),
        "tenant": letter.tenant,
        "id": letter.id,
        "attempts": letter.attempts,
        "worker": letter.worker,
        "digest": letter.digest,
        "bytes": len(letter.payload),
    }


def _when(letter: DeadLetter) -> str:
    return datetime.fromtimestamp(int(letter.letter.partition("-")[0]) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _with_queue(settings: Settings, work: Callable[[Queue], Awaitable[None]]) -> int:
    # Without a Redis of its own to name, it is the one that `serve` brings.
    own = socket_of(settings.run_dir, settings.redis_dir)
    if settings.redis_url is None and not own.exists():
        raise SetupError(
            f"no `sandbox-service serve` is running here (there is no {own}): start it, name its SANDBOX_STATE_DIR and "
            "SANDBOX_RUN_DIR, or set SANDBOX_REDIS_URL"
        )
    found = settings.model_copy(update={"redis_url": settings.redis_url or f"unix://{own}"})

    async def run() -> None:
        queue = await Queue.connect(found)
        try:
            await work(queue)
        finally:
            await queue.close()

    asyncio.run(run())
    return 0
