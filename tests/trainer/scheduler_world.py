"""A world for the scheduler: engines that come and go, tools that answer, rollouts that grow, end or are given up.

Each step one random thing happens, all of it drawn from a seed. After each the world checks what `scheduler.py`
promises, against its own books: it asks the scheduler for nothing but what to do, and how much it thinks is held.
"""

from __future__ import annotations

import random

from sandbox_service.trainer.scheduler import Abort, Action, Generate, Policy, Scheduler

LIMIT, CAPACITY, PROMPT = 64, 200, 5


class World:
    """`churn`: how many times engines leave, join or are replaced; `given_up`: how many rollouts are dropped."""

    def __init__(
        self, policy: Policy, rollouts: int, engines: int, seed: int, churn: int = 0, given_up: int = 0
    ) -> None:
        self.chance = random.Random(seed)
        self.scheduler = Scheduler(policy, LIMIT)
        self.churn, self.to_give_up, self.made = churn, given_up, 0
        self.capacity: dict[str, int] = {}
        self.final = {str(n): PROMPT + self.chance.randint(1, LIMIT) for n in range(rollouts)}
        self.to_come = list(self.final)
        self.length: dict[str, int] = {}
        self.ahead: dict[str, int] = {}
        self.place: dict[str, str] = {}
        """Engine of each rollout that has one."""
        self.running: dict[str, Generate] = {}
        self.tools: list[str] = []
        self.over: list[str] = []
        """Finished or given up, in this order; only the finished count as rounds."""
        self.finished: list[str] = []
        self.stale: list[Generate] = []
        self.log: list[Action] = []
        self._bounds: dict[str, tuple[int, int]] = {}
        """Of each waiting rollout: rounds over when it began to wait, and how many more it may have to wait."""
        for _ in range(engines):
            self.join(CAPACITY)
        for _ in range(1 + rollouts // 2):
            self.submit()
        self.follow()

    def play(self) -> World:
        for _ in range(20_000):
            if len(self.over) == len(self.final):
                return self
            if not (self.running or self.tools):
                assert self.to_come or not self.capacity, "nothing runs, and rollouts wait"
            self.step()
            self.follow()
        raise AssertionError("it never ends")

    # ---- what happens -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        level = self.chance.random()
        if self.to_come and (level < 0.1 or not (self.running or self.tools)):
            self.submit()
        elif not self.capacity:
            self.join(CAPACITY)
        elif self.churn and level < 0.15:
            self.churn -= 1
            what = self.chance.choice(("leave", "join", "replace"))
            if what != "join":
                self.leave(self.chance.choice(sorted(self.capacity)))
            if what != "leave":
                self.join(self.chance.randint(PROMPT + LIMIT, 2 * CAPACITY))
        elif self.to_give_up and level < 0.2 and self.length:
            self.to_give_up -= 1
            self.give_up(self.chance.choice(sorted(self.length)))
        elif self.tools and (not self.running or self.chance.random() < 0.4):
            self.tool_answers(self.tools.pop(self.chance.randrange(len(self.tools))))
        elif self.running:
            self.decode(self.running[self.chance.choice(sorted(self.running))])
        if self.stale:
            self.hear_from_a_lost_attempt(self.chance.choice(self.stale))

    def submit(self) -> None:
        if self.to_come:
            id = self.to_come.pop(0)
            self.length[id], self.ahead[id] = PROMPT, 0
            self.scheduler.submit(id, PROMPT)

    def join(self, capacity: int) -> None:
        name = f"engine-{self.made}"
        self.made += 1
        self.capacity[name] = capacity
        self.scheduler.engine_joined(name, capacity)

    def leave(self, name: str) -> None:
        del self.capacity[name]
        self.place = {id: engine for id, engine in self.place.items() if engine != name}
        self.scheduler.engine_left(name)

    def give_up(self, id: str) -> None:
        self.scheduler.dropped(id)
        if id in self.running:
            self.stale.append(self.running.pop(id))
        if id in self.tools:
            self.tools.remove(id)
        self._forget(id)

    def tool_answers(self, id: str) -> None:
        self.length[id] = min(self.final[id], self.length[id] + self.chance.randint(0, 3))
        if self.scheduler.policy is Policy.ROUND_ROBIN:
            self.place.pop(id, None)
        self.scheduler.tool_done(id, self.length[id])

    def decode(self, generate: Generate) -> None:
        id, attempt = generate.rollout, generate.attempt
        self.length[id] = length = min(self.final[id], self.length[id] + self.chance.randint(1, 12))
        self.ahead[id] = 0
        if length == self.final[id]:
            del self.running[id]
            assert self.scheduler.finished(id, length, attempt)
            self.stale.append(generate)
            self.finished.append(id)
            self._forget(id)
        elif self.chance.random() < 0.3:
            del self.running[id]
            assert self.scheduler.turn_over(id, length, attempt)
            self.stale.append(generate)
        else:
            self.ahead[id] = min(self.chance.choice((0, 8)), self.final[id] - length)
            self.scheduler.grew(id, length, attempt, self.ahead[id])

    def hear_from_a_lost_attempt(self, late: Generate) -> None:
        """Whatever it brings, it changes nothing."""
        length = self.final[late.rollout]
        assert not self.scheduler.finished(late.rollout, length, late.attempt)
        assert not self.scheduler.turn_over(late.rollout, length, late.attempt)
        assert not self.scheduler.grew(late.rollout, length, late.attempt)

    def _forget(self, id: str) -> None:
        self.over.append(id)
        del self.length[id], self.ahead[id]
        self.place.pop(id, None)
        self._bounds.pop(id, None)

    # ---- what the scheduler says to it, and the checks --------------------------------------------------------------

    def follow(self) -> None:
        placed: list[str] = []
        for action in self.scheduler.next():
            id = action.rollout
            self.log.append(action)
            assert id in self.length, f"{action} for a rollout that is over"
            if isinstance(action, Generate):
                assert id not in self.running
                assert id not in self.tools
                assert action.engine in self.capacity
                if id not in self.place:
                    placed.append(id)
                elif self.scheduler.policy is not Policy.ROUND_ROBIN:
                    assert self.place[id] == action.engine, f"{id} was moved"
                self.place[id], self.running[id] = action.engine, action
            elif isinstance(action, Abort):
                if action.engine in self.capacity:
                    self._check_victim(action)
                    del self.place[id]
                self.ahead[id] = 0
                if id in self.running:
                    self.stale.append(self.running.pop(id))
            else:
                self.tools.append(id)
        if self.scheduler.policy.kv_aware:
            self._check_capacity()
            self._check_waiting(placed)

    def _check_victim(self, abort: Abort) -> None:
        """The youngest of its engine, so never the oldest."""
        others = [int(id) for id, engine in self.place.items() if engine == abort.engine and id != abort.rollout]
        assert others, f"{abort.rollout} was alone"
        assert int(abort.rollout) > max(others)

    def _check_capacity(self) -> None:
        for name, capacity in self.capacity.items():
            held = sum(self.length[id] + self.ahead[id] for id, engine in self.place.items() if engine == name)
            assert held == self.scheduler.used(name)
            assert held <= capacity

    def _check_waiting(self, placed: list[str]) -> None:
        waiting = [id for id in self.length if id not in self.running and id not in self.tools]
        assert self.scheduler.waiting() == len(waiting)
        if placed and waiting:
            assert max(map(int, placed)) < min(map(int, waiting)), "a waiting rollout was overtaken"
        for id in placed:
            self._bounds.pop(id, None)
        rounds = len(self.finished)
        for id in waiting:
            if id not in self._bounds:
                ahead = [o for o in self.length if o != id and (int(o) < int(id) or o in self.place)]
                self._bounds[id] = rounds, len(ahead)
            began, bound = self._bounds[id]
            assert rounds - began <= bound, f"{id} waits for too many rounds"
