"""Rollouts against a service that really runs: thousands at once, what its faults cost, what a restart finds."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.load.cluster import cluster
from loadtest.train_faults import Killer
from sandbox_service.client import AsyncSandboxClient, Retries
from sandbox_service.errors import ServiceFault
from sandbox_service.models import Call, Limits, Result, Status
from sandbox_service.serve import temporary_service
from sandbox_service.trainer.checkpoint import open_run
from sandbox_service.trainer.groups import play_groups
from sandbox_service.trainer.inference import Generation, Sampling, Stop
from sandbox_service.trainer.journal import read_rollouts
from sandbox_service.trainer.problems import answer_turn, call_turn
from sandbox_service.trainer.prompts import TEMPLATES, Piece
from sandbox_service.trainer.recipe import NANO
from sandbox_service.trainer.records import Problem, StopReason
from sandbox_service.trainer.rollout import Play, Rules
from sandbox_service.trainer.tokens import Tokens
from sandbox_service.trainer.tools import Tools, Verifier
from sandbox_service.trainer.train import train
from tests.conftest import WaitUntil
from tests.e2e.processes import kill_the_zygote_above

CHECKPOINT = Path(__file__).with_name("smoke")
TOKENS = Tokens.load(CHECKPOINT)
RULES = Rules(max_tokens=300, turns=3, temperature=1.0)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with temporary_service() as found:
        yield found


class Reader:
    """A model that calls the tool once and answers what it read there; `program` writes the call of a rollout."""

    name, capacity_tokens, preemptions, recomputed_tokens, used_tokens = "reader", 10_000_000, 0, 0, 0

    def program(self, group: int, rollout: int) -> str:
        """Each rollout its own; every fourth fails, every eighth tells the wrong number."""
        if rollout % 4 == 3:
            return f"print({group} + undefined)"
        return f"print({group}*1000+{rollout % 8 == 6:d})"

    async def generate(self, rollout: str, tokens: Sequence[int], max_new: int, sampling: Sampling) -> Generation:
        if tokens[-1] == TOKENS.call_end:
            return Generation([TOKENS.end], [-0.5], Stop.END)
        read = re.findall(r"<tool_response>(.*?)</tool_response>", TOKENS.decode(tokens), re.DOTALL)
        _, group, number = rollout.rsplit("-", 2)
        turn = answer_turn((read[-1],)) if read else call_turn(self.program(int(group), int(number)))
        said = TOKENS.encode([Piece(turn)])
        said = said[: next(index for index, token in enumerate(said, 1) if token in sampling.stop)]
        return Generation(said, [-0.5] * len(said), Stop.END)

    def release(self, rollout: str) -> None:
        pass


class Counting(AsyncSandboxClient):
    """Notes how many calls were under way at once."""

    now = most = 0

    async def run(self, code: str | Call, **fields: object) -> Result:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await super().run(code, **fields)
        finally:
            self.now -= 1


def playing(sandbox: AsyncSandboxClient, model: Reader) -> Play:
    return Play("live", 0, TOKENS, TEMPLATES["short"], Tools(sandbox, 20.0, 40), Verifier(sandbox), model)


def asked(count: int) -> list[Problem]:
    return [Problem(f"{group}000?", str(group * 1000), "x") for group in range(count)]


async def test_two_thousand_rollouts_at_once_get_their_own_answers(tmp_path: Path, url: str) -> None:
    """Each reads the output of its own call, and the service's verdict is on its own answer."""
    async with Counting(url) as sandbox:
        groups, lost = await play_groups("1", asked(64), 32, RULES, playing(sandbox, Reader()), tmp_path, 0.0)
        assert sandbox.most >= 2000
    assert lost == 0
    assert [len(group) for group in groups] == [32] * 64
    for group in groups:
        for rollout in group:
            outcome = "failed" if rollout.rollout % 4 == 3 else "ok"
            assert [use.outcome for use in rollout.tools] == [outcome], rollout.key
            assert rollout.reward == float(rollout.rollout % 4 != 3 and rollout.rollout % 8 != 6), rollout.key
            assert rollout.stop is StopReason.DONE


class OneSleeps(Reader):
    """One rollout's call is under way for long enough to lose its jail."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def program(self, group: int, rollout: int) -> str:
        sleep = f"open('/proc/self/comm','w').write('{self.mark}');import time;time.sleep(15);"
        return f"{sleep if (group, rollout) == (1, 2) else ''}print({group}*1000)"


@pytest.mark.parametrize("max_lost", [0.1, 0.0])
async def test_a_call_that_the_service_lost_drops_its_rollout_or_stops_the_run(
    tmp_path: Path, url: str, wait_until: WaitUntil, max_lost: float
) -> None:
    """Its jail dies twice, so that it ends as infra_error; the other 39 rollouts of the step are scored."""
    model = OneSleeps(uuid.uuid4().hex[:15])
    async with AsyncSandboxClient(url, retries=Retries(infra_errors=0)) as sandbox:
        step = play_groups("1", asked(5), 8, RULES, playing(sandbox, model), tmp_path, max_lost)
        task = asyncio.create_task(step)
        await wait_until(lambda: len(read_rollouts(tmp_path / "1.jsonl")) == 39, timeout_s=60)
        for _ in range(2):
            await kill_the_zygote_above(model.mark, wait_until)
        if max_lost:
            groups, lost = await task
            assert (lost, [len(group) for group in groups]) == (1, [8, 7, 8, 8, 8])
            assert all(rollout.reward == 1.0 for group in groups for rollout in group)
        else:
            with pytest.raises(ServiceFault, match=r"1 rollouts of step 1 were lost.*infra_error"):
                await task
    assert (1, 2) not in {key[1:] for key in read_rollouts(tmp_path / "1.jsonl")}


class Sleeper(Reader):
    """Each call takes a moment, so that a worker that is killed was busy."""

    def program(self, group: int, rollout: int) -> str:
        return f"import time;time.sleep(0.5);print({group}*1000)"


async def test_workers_that_are_killed_cost_time_and_no_rollout(tmp_path: Path) -> None:
    """Calls are begun a second time, and each rollout is scored as if nothing had been."""
    log = tmp_path / "kills.log"
    with cluster(workers=2, profiles="bare", slots=4, lease_s=1.0) as service, Killer(service, log).at_work():
        async with AsyncSandboxClient(service.urls) as sandbox:
            groups, lost = await play_groups("1", asked(25), 8, RULES, playing(sandbox, Sleeper()), tmp_path, 0.0)
    assert log.read_text()
    assert lost == 0
    rollouts = [rollout for group in groups for rollout in group]
    assert [rollout.reward for rollout in rollouts] == [1.0] * 200
    assert max(use.attempts for rollout in rollouts for use in rollout.tools) == 2


async def test_a_restarted_run_cancels_what_its_predecessor_left(tmp_path: Path, url: str) -> None:
    """Calls with its label, and nobody else's, before it does anything else."""

    class Enough(Exception):
        pass

    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        raise Enough

    recipe = replace(NANO, base=str(CHECKPOINT))
    run = open_run(tmp_path, recipe, 0)
    async with AsyncSandboxClient(url) as sandbox:
        calls = [
            Call(code="import time; time.sleep(20)", labels={"run": label, "step": "1"}, limits=Limits(wall_s=30))
            for label in (run, run, run, "another")
        ]
        tickets = [await sandbox.submit(call) for call in calls]
        with pytest.raises(Enough):
            await train(recipe, 0, tmp_path, sandbox, say)
        assert said == [f"cancelled 3 calls that an earlier start of {run} had left"]
        for ticket in tickets[:3]:
            assert (await sandbox.wait(ticket.id, timeout_s=10)).status is Status.CANCELLED
        assert await sandbox.get(tickets[3].id) is None
        await sandbox.cancel(tickets[3].id)
