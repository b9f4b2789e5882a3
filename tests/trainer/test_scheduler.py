"""The invariants of the scheduler's state machine, under random rollouts, tools, preemptions and dying engines."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox_service.trainer import scheduler
from sandbox_service.trainer.need import BUCKETS, Expected, WorstCase
from sandbox_service.trainer.scheduler import Abort, Generate, Policy, RunTool, Scheduler
from tests.trainer.scheduler_world import CAPACITY, LIMIT, PROMPT, World


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(Policy),
    st.integers(1, 25),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.integers(0, 6),
    st.integers(0, 4),
)
def test_every_rollout_finishes_exactly_once_whatever_happens(
    policy: Policy, rollouts: int, engines: int, seed: int, churn: int, given_up: int
) -> None:
    """Engines die, leave and join. Also, for a KV-aware policy, checked by `World` after each event: no capacity is
    exceeded, nobody is overtaken, only the youngest is preempted, a waiting rollout waits a bounded number of rounds.
    """
    world = World(policy, rollouts, engines, seed, churn, given_up).play()
    assert sorted(world.over) == sorted(world.final)
    assert set(world.final) - set(world.finished) <= set(world.over)
    assert len(world.finished) >= rollouts - given_up
    assert world.scheduler.waiting() == 0
    assert all(world.scheduler.used(engine) == 0 for engine in world.capacity)


def test_the_same_events_lead_to_the_same_actions() -> None:
    """In another process too, where strings hash, and so sets of them are ordered, otherwise."""
    program = f"""if True:
        from sandbox_service.trainer.scheduler import Policy
        from {World.__module__} import World
        for policy in Policy:
            print(World(policy, 25, 3, 7, 3, 2).play().log)"""
    logs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert logs[0].count(b"Generate") > 100
    assert logs[0] == logs[1] == logs[2]


def test_random_worlds_do_preempt() -> None:
    """Or the property above would show nothing about preemption."""
    assert sum(World(Policy.EXPECTED, 25, 2, seed).play().scheduler.preemptions for seed in range(20)) > 10


def test_the_worst_case_admits_as_many_as_fit_at_full_length_and_never_preempts() -> None:
    scheduler = Scheduler(Policy.WORST_CASE, LIMIT)
    scheduler.engine_joined("engine", CAPACITY)
    for n in range(10):
        scheduler.submit(str(n), PROMPT)
    assert len(scheduler.next()) == CAPACITY // (PROMPT + LIMIT)
    assert World(Policy.WORST_CASE, 25, 2, 1).play().scheduler.preemptions == 0


def test_tool_calls_leave_at_once_but_in_one_lot_behind_the_barrier() -> None:
    for policy, expected in ((Policy.STATIC, [RunTool("0")]), (Policy.STATIC_BARRIER, [])):
        scheduler = Scheduler(policy, LIMIT)
        scheduler.engine_joined("engine", CAPACITY)
        for id in "01":
            scheduler.submit(id, PROMPT)
        first, second = (action for action in scheduler.next() if isinstance(action, Generate))
        scheduler.turn_over("0", 10, first.attempt)
        assert scheduler.next() == expected
        scheduler.turn_over("1", 10, second.attempt)
        assert scheduler.next() == ([RunTool("1")] if expected else [RunTool("0"), RunTool("1")])


def test_an_expectation_counts_the_unfinished_too() -> None:
    """Two short ones ended, twenty go on: an average over the finished would call everything short."""
    need = Expected(LIMIT)
    for _ in range(2):
        need.grew(0, LIMIT // 8)
        need.finished(LIMIT // 8)
    for _ in range(20):
        need.grew(0, LIMIT // 2)
    assert need.survival()[BUCKETS // 2] > 0.7


def test_who_is_in_the_middle_of_a_bucket_counts_as_not_ended_in_that_half() -> None:
    """In a first wave all are in the same bucket. Those that had not left it did not count, so the few that had ended
    there looked like half of all: too many were admitted, and a third of what `static` computes again was.
    """
    need, per_bucket = Expected(64 * BUCKETS), 64
    for _ in range(96):
        need.grew(0, 7 * per_bucket + per_bucket // 2)
    for _ in range(4):
        need.grew(0, 7 * per_bucket + per_bucket // 4)
        need.finished(7 * per_bucket + per_bucket // 4)
    assert need.survival()[8] / need.survival()[7] == pytest.approx(0.92, abs=0.02)


def test_an_expectation_is_below_the_worst_case_and_not_below_what_is_held() -> None:
    held = [(PROMPT, PROMPT + n) for n in range(0, LIMIT, 4)]
    assert sum(length for _, length in held) <= Expected(LIMIT).tokens(held) < WorstCase(LIMIT).tokens(held)


def test_preemptions_widen_the_margin_and_finished_rollouts_narrow_it() -> None:
    need, held = Expected(LIMIT), [(PROMPT, PROMPT)] * 10
    before = need.tokens(held)
    need.preempted()
    assert need.tokens(held) > before
    for _ in range(300):
        need.finished(1)
    assert need.tokens(held) < before


def test_a_burst_of_preemptions_is_forgotten_soon() -> None:
    """The margin went up to six deviations, and a third of the cache stayed empty for the rest of the step."""
    burst, calm, held = Expected(LIMIT), Expected(LIMIT), [(PROMPT, PROMPT)] * 10
    for _ in range(100):
        burst.preempted()
    for need in (burst, calm):
        need.learn([LIMIT // 2] * 40)
    assert burst.tokens(held) == pytest.approx(calm.tokens(held))


def test_what_an_earlier_step_taught_counts_at_once() -> None:
    cold, warm, held = Expected(LIMIT), Expected(LIMIT), [(PROMPT, PROMPT)] * 10
    warm.learn([LIMIT] * 100)
    assert warm.tokens(held) > cold.tokens(held)


def test_what_can_never_fit_is_refused() -> None:
    scheduler = Scheduler(Policy.EXPECTED, LIMIT)
    with pytest.raises(ValueError, match="lower the limit"):
        scheduler.engine_joined("small", LIMIT - 1)
    scheduler.engine_joined("engine", LIMIT)
    with pytest.raises(ValueError, match="an engine has"):
        scheduler.submit("0", 1)


def test_tool_results_that_do_not_fit_queue_their_rollout_once() -> None:
    """It preempted itself with them, was queued for that and again for its next turn, and then ran twice."""
    scheduler = Scheduler(Policy.EXPECTED, LIMIT, WorstCase(1))
    scheduler.engine_joined("engine", 100)
    for id in "01":
        scheduler.submit(id, PROMPT)
    first, second = (action for action in scheduler.next() if isinstance(action, Generate))
    assert scheduler.grew("0", 60, first.attempt)
    assert scheduler.turn_over("1", 38, second.attempt)
    scheduler.tool_done("1", 50)
    assert scheduler.next() == [RunTool("1"), Abort("1", "engine", 1)]
    assert scheduler.waiting() == 1


@pytest.mark.parametrize("how", ["finished", "dropped"])
def test_an_engine_that_preempted_admits_nobody_until_one_of_its_rollouts_ended(how: str) -> None:
    """There is room for the preempted one at once, but the others grow on: it would only be preempted again."""
    scheduler = Scheduler(Policy.EXPECTED, LIMIT, WorstCase(1))
    scheduler.engine_joined("engine", 100)
    for id in "012":
        scheduler.submit(id, PROMPT)
    attempts = {action.rollout: action.attempt for action in scheduler.next() if isinstance(action, Generate)}
    assert scheduler.grew("0", 50, attempts["0"])
    assert scheduler.grew("1", 46, attempts["1"])
    assert scheduler.next() == [Abort("2", "engine", 1)]
    assert scheduler.next() == []
    if how == "finished":
        assert scheduler.finished("1", 46, attempts["1"])
    else:
        scheduler.dropped("1")
    assert scheduler.next() == [Generate("2", "engine", 2)]


def test_a_nearly_empty_engine_starts_more_than_is_expected_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing them again costs less than passes with few rollouts in them: a third of the cache had stayed empty."""

    def started() -> int:
        one = Scheduler(Policy.EXPECTED, LIMIT)
        one.engine_joined("engine", CAPACITY)
        for n in range(40):
            one.submit(str(n), PROMPT)
        assert one.next()
        assert one.used("engine") <= CAPACITY
        return 40 - one.waiting()

    more = started()
    monkeypatch.setattr(scheduler, "FREE_BATCH", 0)
    assert more > 1.5 * started()


def test_engines_are_evened_out_when_nobody_waits_if_it_costs_little() -> None:
    """The last rollouts of one engine went on for long when all the others had nothing to do any more."""
    fleet = Scheduler(Policy.EXPECTED, LIMIT)
    for name in "ab":
        fleet.engine_joined(name, CAPACITY)
    for n in range(6):
        fleet.submit(str(n), PROMPT)
    started = {action.rollout: action for action in fleet.next() if isinstance(action, Generate)}
    for id in "024":
        assert started[id].engine == "a"
        assert fleet.grew(id, PROMPT if id == "4" else 60, started[id].attempt)
    for id in "135":
        assert fleet.finished(id, 50, started[id].attempt)
    assert fleet.next() == [Abort("4", "a", 1), Generate("4", "b", 2)]
    assert fleet.next() == []
    assert fleet.finished("4", 50, 2)
    assert fleet.next() == [], "the youngest is long: that would cost more than it brings"


def test_evening_out_comes_to_an_end() -> None:
    """Three short ones on two engines: whoever has two of them needs more by ten times what one holds."""
    fleet = Scheduler(Policy.EXPECTED, LIMIT)
    for name in "ab":
        fleet.engine_joined(name, CAPACITY)
    for id in "012":
        fleet.submit(id, 1)
    assert len(fleet.next()) == 3
    assert fleet.next() == []


class Asked(World):
    """The scheduler is asked what to do until it has nothing more to say."""

    def follow(self) -> None:
        for _ in range(100):
            said = len(self.log)
            super().follow()
            if len(self.log) == said:
                return
        raise AssertionError(f"it never comes to an end: {self.log[-6:]}")


@pytest.mark.parametrize("worth", [0, scheduler.WORTH_MOVING])
def test_without_an_event_moving_comes_to_an_end(monkeypatch: pytest.MonkeyPatch, worth: int) -> None:
    """And whoever is moved comes to another engine. The fleet's loop asks again after each move, without a pause."""
    monkeypatch.setattr(scheduler, "WORTH_MOVING", worth)
    for seed in range(40):
        Asked(Policy.EXPECTED, 25, 3, seed).play()


def test_random_worlds_do_even_out() -> None:
    """Or the properties would say nothing about rollouts that are moved."""
    moved = 0
    for seed in range(20):
        log = World(Policy.EXPECTED, 25, 3, seed).play().log
        for one, other in pairwise(log):
            if isinstance(one, Abort) and isinstance(other, Generate) and one.rollout == other.rollout:
                moved += one.engine != other.engine
    assert moved > 10


def test_what_is_announced_counts_until_the_next_word() -> None:
    scheduler = Scheduler(Policy.EXPECTED, LIMIT)
    scheduler.engine_joined("engine", CAPACITY)
    scheduler.submit("0", PROMPT)
    (generate,) = (action for action in scheduler.next() if isinstance(action, Generate))
    assert scheduler.grew("0", PROMPT, generate.attempt, ahead=16)
    assert scheduler.used("engine") == PROMPT + 16
    assert scheduler.turn_over("0", PROMPT + 3, generate.attempt)
    assert scheduler.used("engine") == PROMPT + 3


@pytest.mark.parametrize("policy", Policy)
def test_a_rollout_may_be_dropped_at_any_time(policy: Policy) -> None:
    """One that waits, one that generates, one whose tool runs; nothing of them is left and the others go on."""
    scheduler = Scheduler(policy, LIMIT)
    scheduler.engine_joined("engine", PROMPT + LIMIT)
    for id in "0123":
        scheduler.submit(id, PROMPT)
    attempts = {action.rollout: action.attempt for action in scheduler.next() if isinstance(action, Generate)}
    scheduler.dropped("3")
    scheduler.turn_over("0", PROMPT + 9, attempts["0"])
    scheduler.next()
    scheduler.dropped("0")
    scheduler.dropped("0")
    assert not scheduler.finished("0", PROMPT + 9, attempts["0"])
    attempts |= {action.rollout: action.attempt for action in scheduler.next() if isinstance(action, Generate)}
    scheduler.dropped("1")
    attempts |= {action.rollout: action.attempt for action in scheduler.next() if isinstance(action, Generate)}
    assert scheduler.finished("2", PROMPT + 9, attempts["2"])
    assert scheduler.used("engine") == scheduler.waiting() == 0
    assert scheduler.next() == []


def test_nothing_is_said_any_more_about_a_rollout_that_was_dropped() -> None:
    """Its tool call, or its next turn, was decided but not yet asked for."""
    scheduler = Scheduler(Policy.EXPECTED, LIMIT)
    scheduler.engine_joined("engine", CAPACITY)
    for id in "01":
        scheduler.submit(id, PROMPT)
    first, second = (action for action in scheduler.next() if isinstance(action, Generate))
    scheduler.turn_over("0", PROMPT + 1, first.attempt)
    scheduler.turn_over("1", PROMPT + 1, second.attempt)
    scheduler.dropped("0")
    assert scheduler.next() == [RunTool("1")]
    scheduler.tool_done("1", PROMPT + 2)
    scheduler.dropped("1")
    assert scheduler.next() == []
