"""Several engines as one: whatever the scheduler does with a rollout, its tokens are those it would have had alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from sandbox_service.trainer import model, scheduler
from sandbox_service.trainer.engine import LocalEngine
from sandbox_service.trainer.fleet import Fleet
from sandbox_service.trainer.inference import EngineLost, Sampling, Stop
from sandbox_service.trainer.recipe import NANO, Scheduling
from sandbox_service.trainer.scheduler import Policy
from sandbox_service.trainer.train import local_engines

LIMIT, ROLLOUTS = 60, 10
NEVER = frozenset[int]()


async def conversation(engine: LocalEngine | Fleet, index: int, turns: int = 3) -> list[int]:
    name, tokens = f"rollout-{index}", [1 + index, 2, 3]
    for turn in range(turns):
        made = await engine.generate(name, tokens, 5 + 2 * (index % 5), Sampling(1.0, NEVER, f"seed/{index}"))
        tokens = tokens + made.tokens
        if turn < turns - 1:
            await asyncio.sleep(0.001 * (index % 3))
            tokens += [4, 5, 6]
    engine.release(name)
    return tokens


async def alone(policy: model.Policy) -> list[list[int]]:
    engine = LocalEngine(policy, 10_000)
    return list(await asyncio.gather(*(conversation(engine, index) for index in range(ROLLOUTS))))


def engines(policy: model.Policy, count: int, capacity: int = 150) -> list[LocalEngine]:
    return [LocalEngine(policy, capacity, name=f"engine-{n}") for n in range(count)]


@pytest.mark.parametrize("scheduling", Policy)
async def test_every_policy_generates_the_same_tokens(policy: model.Policy, scheduling: Policy) -> None:
    made = engines(policy, 2)
    fleet = Fleet(scheduling, LIMIT, made)
    together = await asyncio.gather(*(conversation(fleet, index) for index in range(ROLLOUTS)))
    assert together == await alone(policy)
    assert fleet.used_tokens == 0
    assert all(engine.generated_tokens > 0 for engine in made)
    if scheduling is Policy.WORST_CASE:
        assert fleet.preemptions == fleet.recomputed_tokens == 0


async def test_rollouts_of_an_engine_that_dies_or_leaves_go_on_elsewhere(policy: model.Policy) -> None:
    dies, leaves, stays = engines(policy, 3)
    fleet = Fleet(Policy.EXPECTED, LIMIT, [dies, leaves])
    running = [asyncio.ensure_future(conversation(fleet, index)) for index in range(ROLLOUTS)]
    while dies.generated_tokens < 20:
        await asyncio.sleep(0.001)
    fleet.join(stays)
    dies.close()
    while stays.generated_tokens < 20:
        await asyncio.sleep(0.001)
    fleet.leave(leaves)
    assert await asyncio.gather(*running) == await alone(policy)
    assert fleet.recomputed_tokens > 0
    assert fleet.used_tokens == leaves.used_tokens == 0


async def test_when_one_engine_has_nothing_left_a_rollout_of_the_other_goes_on_there(policy: model.Policy) -> None:
    async def talk(engine: LocalEngine | Fleet, index: int) -> list[int]:
        length = 1 if index % 2 else 50
        made = await engine.generate(str(index), [1 + index, 2, 3], length, Sampling(1.0, NEVER, f"{index}"))
        engine.release(str(index))
        return made.tokens

    busy, idle = engines(policy, 2)
    fleet = Fleet(Policy.EXPECTED, LIMIT, [busy, idle])
    together = await asyncio.gather(*(talk(fleet, index) for index in range(6)))
    assert together == await asyncio.gather(*(talk(LocalEngine(policy, 1000), index) for index in range(6)))
    assert idle.generated_tokens > 3 + 40
    assert fleet.preemptions == fleet.used_tokens == 0


async def test_a_rollout_may_be_moved_by_its_own_growth(policy: model.Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was generated on the new engine under the old attempt first, thrown away, and refused the second time."""
    monkeypatch.setattr(scheduler, "WORTH_MOVING", 0)
    fleet = Fleet(Policy.EXPECTED, LIMIT, engines(policy, 3, capacity=1000))
    monkeypatch.setattr(fleet, "_piece", 1)
    together = await asyncio.gather(*(conversation(fleet, index) for index in range(ROLLOUTS)))
    assert together == await alone(policy)
    assert fleet.recomputed_tokens > 0


async def test_with_the_last_engine_every_waiting_rollout_hears_that_it_is_lost(policy: model.Policy) -> None:
    only, later = engines(policy, 2)
    fleet = Fleet(Policy.EXPECTED, LIMIT, [only])
    running = [asyncio.ensure_future(conversation(fleet, index)) for index in range(ROLLOUTS)]
    while only.generated_tokens < 5:
        await asyncio.sleep(0.001)
    only.close()
    outcomes = await asyncio.gather(*running, return_exceptions=True)
    assert all(isinstance(outcome, EngineLost) for outcome in outcomes)
    with pytest.raises(EngineLost):
        await conversation(fleet, 0)
    fleet.join(later)
    assert await conversation(fleet, 0) == await conversation(LocalEngine(policy, 1000), 0)


async def test_a_rollout_that_is_given_up_makes_room(policy: model.Policy) -> None:
    """Whether it waits for a place, is generating, or its task was cancelled."""
    fleet = Fleet(Policy.WORST_CASE, LIMIT, engines(policy, 1, capacity=LIMIT + 3))
    sampling = Sampling(1.0, NEVER, "")
    running, waiting, cancelled = (
        asyncio.ensure_future(fleet.generate(name, [1, 2, 3], LIMIT, sampling)) for name in "abc"
    )
    await asyncio.sleep(0.01)
    fleet.release("b")
    cancelled.cancel()
    fleet.release("a")
    for task in (running, waiting, cancelled):
        with pytest.raises(asyncio.CancelledError):
            await task
    made = await fleet.generate("d", [1, 2, 3], 5, sampling)
    assert made.stop is Stop.LENGTH
    fleet.release("d")
    assert fleet.used_tokens == 0


async def test_behind_the_barrier_no_tool_call_leaves_before_the_last_turn_ends(policy: model.Policy) -> None:
    fleet = Fleet(Policy.STATIC_BARRIER, LIMIT, engines(policy, 1))
    long, short = (
        asyncio.ensure_future(fleet.generate(name, [1, 2], length, Sampling(1.0, NEVER, name)))
        for name, length in (("long", 40), ("short", 2))
    )
    assert len((await short).tokens) == 2
    await asyncio.sleep(0)
    assert long.done()


async def test_what_can_never_fit_is_refused(policy: model.Policy) -> None:
    fleet = Fleet(Policy.EXPECTED, LIMIT, engines(policy, 1, capacity=80))
    with pytest.raises(ValueError, match="may have 63"):
        await fleet.generate("a", [1, 2, 3], LIMIT + 1, Sampling(1.0, NEVER, ""))
    with pytest.raises(ValueError, match="an engine has 80"):
        await fleet.generate("a", [1] * 21, LIMIT, Sampling(1.0, NEVER, ""))
    with pytest.raises(ValueError, match="lower the limit"):
        fleet.join(LocalEngine(policy, LIMIT - 1, name="small"))


async def test_a_recipe_with_more_than_one_engine_trains_on_a_fleet(policy: model.Policy) -> None:
    """With the policy that the recipe names; `test_resume.py` trains with one."""
    rl = replace(NANO.rl, engines=2, scheduling=Scheduling.STATIC)
    fleet = local_engines(policy, replace(NANO, rl=rl))
    assert isinstance(fleet, Fleet)
    assert fleet.capacity_tokens == 2 * rl.kv_tokens
    together = await asyncio.gather(*(conversation(fleet, index) for index in range(ROLLOUTS)))
    assert together == await alone(policy)
    assert isinstance(local_engines(policy, NANO), LocalEngine)
