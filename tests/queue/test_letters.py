"""Dead letters, as an operator meets them: listed, shown, run again."""

from __future__ import annotations

import asyncio
import json

import pytest

from sandbox_service.cli import main
from sandbox_service.models import Job, Limits
from sandbox_service.queue import Queue
from tests.queue.conftest import MakeQueue, fetch_one, submission
from tests.queue.test_recovery import WaitUntil, crash, recovered


@pytest.fixture
def operator(queue: Queue, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs `sandbox-service dead-letters` with these words; answers its exit code and what it printed."""
    monkeypatch.setenv("SANDBOX_REDIS_URL", redis_url)
    monkeypatch.setenv("SANDBOX_REDIS_PREFIX", queue._keys["DEAD"].rpartition(":")[0])

    async def run(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["dead-letters", *words])
        told = capsys.readouterr()
        return code, told.out + told.err

    return run


async def kill_twice(queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil, *ids: str, pad: int = 0) -> None:
    shared = {"code": "print(1)#", "stdin": pad * "x", "limits": Limits(wall_s=3), "labels": {"run": "r"}}
    jobs = [Job.model_validate({"id": each, **shared}) for each in ids]
    calls = [submission(job.id, payload=job.model_dump_json(exclude_defaults=True).encode()) for job in jobs]
    await queue.submit("t", calls, notify="g")
    for _ in range(2):
        await crash(make_queue, f"w-{ids[0]}-{_}", len(ids))
        await wait_until(recovered(queue))


async def test_a_letter_is_listed_shown_and_replayed(  # type: ignore[no-untyped-def]
    queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil, operator
) -> None:
    """The replay is a new call, with the same code and limits, under a label that says what it repeats; its letter is
    gone, and the first call's Result stays."""
    assert await operator("list") == (0, "no dead letters\n")
    await kill_twice(queue, make_queue, wait_until, "a")
    code, told = await operator("list", "--json")
    [letter] = json.loads(told)
    assert (code, letter["tenant"], letter["id"], letter["attempts"]) == (0, "t", "a", 2)
    assert letter["letter"] in (await operator("list"))[1]
    assert (await operator("list", "--tenant", "u"))[1] == "no dead letters\n"
    code, told = await operator("show", letter["letter"])
    assert json.loads(told)["call"]["code"] == "print(1)#"

    code, told = await operator("replay", letter["letter"])
    assert code == 0
    new_id = told.rpartition("/")[2].strip()
    [execution] = await queue.claim("w1", 2, wait_s=0)
    job = Job.model_validate_json(execution.payload)
    assert (execution.id, execution.attempt, job.id, job.code) == (new_id, 1, new_id, "print(1)#")
    assert (job.limits.wall_s, job.labels) == (3, {"run": "r", "replay_of": "a"})
    assert (await operator("list"))[1] == "no dead letters\n"
    first = await fetch_one(queue, "a")
    assert first is not None
    assert first.state == "done"


async def test_all_are_replayed_but_those_too_large_to_be_kept(  # type: ignore[no-untyped-def]
    queue: Queue, make_queue: MakeQueue, wait_until: WaitUntil, operator
) -> None:
    """A large call leaves a letter without it: it says so, and stays."""
    await kill_twice(queue, make_queue, wait_until, "b", "c")
    await kill_twice(queue, make_queue, wait_until, "big", pad=300_000)
    [large] = [each for each in json.loads((await operator("list", "--json"))[1]) if each["id"] == "big"]
    code, told = await operator("replay", large["letter"])
    assert (code, "too large" in told) == (1, True)
    code, told = await operator("replay", "--all")
    assert (code, told.count("runs again")) == (0, 2)
    assert [each["id"] for each in json.loads((await operator("list", "--json"))[1])] == ["big"]


@pytest.mark.parametrize("name", ["nonsense", "1-1", "-"])
async def test_an_unknown_letter_is_told(operator, name: str) -> None:  # type: ignore[no-untyped-def]
    code, told = await operator("show", "--", name)
    assert code == 1
    assert "no dead letter" in told
