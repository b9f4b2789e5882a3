"""The states of a call, explored to the end: every transition from every reachable state, on a real server.

`Call` is the specification: one call, two workers, two gateways, the deadline, leases that are lost and won back, and
results of any attempt at any time. A breadth-first search runs each operation in each state that the specification can
reach, through the real scripts, and compares the answer and everything that Redis then holds: the call's own record,
the stream entry that stands for it, the counts, the dead letters. What is not in it: two calls at once (test_tenants,
test_recovery), announcements (test_transitions), times.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis

from sandbox_service.queue.keys import with_prefix
from sandbox_service.queue.scripts import load_scripts

PAYLOAD = "payload"
WORKERS, GATEWAYS = ("w1", "w2"), ("g1", "g2")


@dataclass(frozen=True)
class Call:
    """What the queue should know. `end`: which Result it has; a worker's is named by the worker and its attempt."""

    state: str = "unknown"
    attempt: int = 0
    owner: str | None = None
    lane: str = "interactive"
    holders: tuple[str, ...] = ()
    is_cancelled: bool = False
    is_late: bool = False
    leases: tuple[str, ...] = WORKERS
    end: str | None = None
    letters: int = 0

    @property
    def is_open(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def is_lost(self) -> bool:
        return self.state == "running" and self.owner not in self.leases

    def ended(self, end: str, *, by_worker: bool = False) -> Call:
        kept = self.owner if by_worker else None
        return Call(state="done", attempt=self.attempt, owner=kept, leases=self.leases, end=end, letters=self.letters)

    def queued_again(self) -> Call:
        return replace(self, state="queued", lane="again", owner=None)

    def noticed(self) -> Call:
        """Whoever looks ends a call whose deadline passed, unless a worker that is there will."""
        if self.is_open and self.is_late and (self.state == "queued" or self.is_lost):
            return self.ended("expired" if self.attempt == 0 else "infra_error")
        return self

    def held(self, gateway: str) -> Call:
        return self if gateway in self.holders else replace(self, holders=(*self.holders, gateway))


Step = Callable[[Call], tuple[Call, Any]]
"""The call afterwards, and the script's answer."""


def described(call: Call) -> list[Any]:
    return [None if call.state == "unknown" else call.state, call.end]


def submit(gateway: str) -> Step:
    def step(call: Call) -> tuple[Call, Any]:
        if call.state == "unknown":
            return replace(call, state="queued", holders=(gateway,)), ["ok", "queued", None]
        after = call.held(gateway).noticed() if call.is_open else call
        return after, ["ok", *described(after)]

    return step


def submit_another(call: Call) -> tuple[Call, Any]:
    return call, ["conflict", 0]


def claim(worker: str) -> Step:
    def step(call: Call) -> tuple[Call, Any]:
        if worker not in call.leases:
            return call, ["lost"]
        if call.state != "queued":
            return call, ["ok"]
        if call.is_late:
            return call.noticed(), ["ok"]
        after = replace(call, state="running", owner=worker, attempt=call.attempt + 1)
        return after, ["ok", "t", "a", after.attempt]

    return step


def finish(worker: str, attempt: int) -> Step:
    def step(call: Call) -> tuple[Call, Any]:
        owned = (call.owner, call.attempt) == (worker, attempt)
        if owned and call.state == "running":
            return call.ended(f"{worker} {attempt}", by_worker=True), [1]
        return call, [int(owned)]

    return step


def release(worker: str, attempt: int) -> Step:
    def step(call: Call) -> tuple[Call, Any]:
        if call.state == "running" and (call.owner, call.attempt) == (worker, attempt):
            given_back = replace(call, attempt=attempt - 1)
            return (given_back.ended("cancelled") if call.is_cancelled else given_back.queued_again()), None
        return call, None

    return step


def retry(worker: str, attempt: int) -> Step:
    def step(call: Call) -> tuple[Call, Any]:
        owned = call.state == "running" and (call.owner, call.attempt) == (worker, attempt)
        if owned and attempt == 1 and not call.is_lost:
            return replace(call, attempt=2), 2
        return call, None

    return step


def cancelled(call: Call) -> Call:
    if call.state == "queued":
        return call.ended("cancelled")
    return replace(call, is_cancelled=True) if call.state == "running" else call


def cancel(call: Call) -> tuple[Call, Any]:
    after = cancelled(call)
    return after, [described(after)[0]]


def abandon(gateway: str) -> Step:
    def step(call: Call) -> tuple[Call, Any]:
        if not call.is_open:
            return call, 0
        left = replace(call, holders=tuple(each for each in call.holders if each != gateway))
        return (left, 0) if left.holders else (cancelled(left), 1)

    return step


def fetch(call: Call) -> tuple[Call, Any]:
    after = call.noticed()
    if after.is_open:
        after = after.held("g2")
    return after, described(after)


def sweep(call: Call) -> tuple[Call, Any]:
    return call.noticed(), "skip"


def recover(call: Call) -> tuple[Call, Any]:
    if not call.is_lost:
        return call, 0
    if call.is_cancelled:
        return call.ended("cancelled"), 1
    if call.attempt == 2:
        return replace(call.ended("infra_error"), letters=call.letters + 1), 1
    return (call.noticed() if call.is_late else call.queued_again()), 1


def lose(worker: str) -> Step:
    return lambda call: (replace(call, leases=tuple(each for each in call.leases if each != worker)), "skip")


def win_back(worker: str) -> Step:
    return lambda call: (replace(call, leases=tuple(sorted({*call.leases, worker}))), "skip")


def pass_deadline(call: Call) -> tuple[Call, Any]:
    return replace(call, is_late=call.is_open), "skip"


STEPS: dict[str, Step] = {
    **{f"submit {gateway}": submit(gateway) for gateway in GATEWAYS},
    "submit-another": submit_another,
    **{f"claim {worker}": claim(worker) for worker in WORKERS},
    **{f"finish {worker} {attempt}": finish(worker, attempt) for worker in WORKERS for attempt in (1, 2)},
    **{f"retry {worker} {attempt}": retry(worker, attempt) for worker in WORKERS for attempt in (1, 2)},
    **{f"release {worker} {attempt}": release(worker, attempt) for worker in WORKERS for attempt in (1, 2)},
    "cancel": cancel,
    **{f"abandon {gateway}": abandon(gateway) for gateway in GATEWAYS},
    "fetch": fetch,
    "sweep": sweep,
    "recover": recover,
    **{f"lose {worker}": lose(worker) for worker in WORKERS},
    **{f"win-back {worker}": win_back(worker) for worker in WORKERS},
    "pass-deadline": pass_deadline,
}


class Server:
    """Runs operations through the scripts, each path from the start, in one round trip."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.keys = with_prefix(f"test-{uuid.uuid4().hex[:12]}")
        self.scripts = load_scripts(self.keys, 900.0)
        for script in self.scripts.values():
            assert self.client.script_load(script.text) == script.sha
        self.lanes = {lane: f"{self.keys['WORK']}default:{lane}:t" for lane in ("interactive", "again", "batch")}

    def run(self, path: list[str]) -> tuple[Any, Call, dict[str, Any]]:
        """The last operation's answer, what Redis knows of the call, and what else it holds."""
        keys, pipe = self.keys, self.client.pipeline(transaction=False)
        call, tenant = f"{keys['CALL']}t:a", f"{keys['TENANT']}t"
        used = [*self.lanes.values(), call, f"{keys['GONE']}t:a", tenant, keys["BACKLOG"], keys["LANES"], keys["DEAD"]]
        pipe.delete(*used, f"{keys['TURNS']}default", f"{keys['WAKE']}default")
        for worker in WORKERS:
            pipe.set(keys["WORKER"] + worker, "{}", ex=600)
        for operation in path:
            self._do(pipe, operation)
        pipe.hmget(call, "state", "attempt", "owner", "lane", "notify", "cancel", "deadline", "result")
        for lane in self.lanes.values():
            pipe.xlen(lane)
            pipe.execute_command("XPENDING", lane, "workers")
        pipe.hmget(keys["BACKLOG"], "queued", "bytes")
        pipe.hmget(tenant, *self.lanes)
        pipe.zscore(f"{keys['TURNS']}default", "t")
        pipe.xlen(keys["DEAD"])
        pipe.mget(*(keys["WORKER"] + worker for worker in WORKERS))
        answers = pipe.execute(raise_on_error=False)
        found, held = self._read(answers[-12:])
        return answers[-13], found, held

    def _do(self, pipe: Any, operation: str) -> None:
        name, *words = operation.split()
        call = f"{self.keys['CALL']}t:a"
        if name in ("submit", "submit-another"):
            bounds = (0, 100, 10**6, 1, 0, 0, 0, 1, 0)
            digest = "other" if name == "submit-another" else "digest"
            fields = ("a", digest, "default", "interactive", 10**9, 0, "{}", PAYLOAD, 0)
            self._script(pipe, "submit", "t", *(words or ["g1"]), "all", "", "", 1000, *bounds, *fields)
        elif name == "claim":
            self._script(pipe, "claim", words[0], 1, "default")
        elif name == "finish":
            self._script(pipe, "finish", words[0], "t", "a", words[1], 0, " ".join(words))
        elif name in ("retry", "release"):
            self._script(pipe, name, words[0], "t", "a", words[1])
        elif name == "cancel":
            self._script(pipe, "cancel", "t", "ids", "a")
        elif name == "abandon":
            self._script(pipe, "cancel", "t", "abandoned", words[0], "a")
        elif name == "fetch":
            self._script(pipe, "fetch", "t", "g2", "a")
        elif name == "sweep":
            for lane in self.lanes.values():
                self._script(pipe, "sweep", lane, "-", 100)
        elif name == "recover":  # its answers, of three lanes, as one
            for lane in self.lanes.values():
                self._script(pipe, "recover", lane, "", 1000)
        elif name == "lose":
            pipe.delete(self.keys["WORKER"] + words[0])
        elif name == "win-back":
            pipe.set(self.keys["WORKER"] + words[0], "{}", ex=600)
        elif name == "pass-deadline":
            # Only a call that has a deadline: the record must not come to be by this.
            pipe.eval("if redis.call('HEXISTS', KEYS[1], 'deadline') == 1 then "
                      "redis.call('HSET', KEYS[1], 'deadline', 1) end", 1, call)  # fmt: skip

    def _script(self, pipe: Any, name: str, *args: Any) -> None:
        pipe.evalsha(self.scripts[name].sha, 0, *args)

    def _read(self, answers: list[Any]) -> tuple[Call, dict[str, Any]]:
        record, *rest = answers
        lanes = {name: (rest[2 * at], rest[2 * at + 1]) for at, name in enumerate(self.lanes)}
        backlog, classes, turn, letters, leases = rest[6:]
        state, attempt, owner, lane, notify, flag, deadline, result = (
            each if each is None else each.decode() for each in record
        )
        end = result and (json.loads(result)["status"] if result.startswith("{") else result)
        found = Call(
            state=state or "unknown",
            attempt=int(attempt or 0),
            owner=owner,
            lane=lane.split(":")[-2] if lane else "interactive",
            holders=tuple((notify or "").split()),
            is_cancelled=flag is not None,
            is_late=deadline == "1",
            leases=tuple(worker for worker, lease in zip(WORKERS, leases, strict=True) if lease),
            end=end or None,
            letters=letters,
        )
        held = {
            "entries": {name: 0 if isinstance(length, Exception) else length for name, (length, _) in lanes.items()},
            "pending": {name: _pending(pending) for name, (_, pending) in lanes.items()},
            "queued": int(backlog[0] or 0),
            "bytes": int(backlog[1] or 0),
            "classes": dict(zip(self.lanes, (int(each or 0) for each in classes), strict=True)),
            "has_turn": turn is not None,
        }
        return found, held


def _pending(answer: Any) -> int:
    if isinstance(answer, Exception):
        return 0  # no such lane
    return int(answer["pending"] if isinstance(answer, dict) else answer[0])


def expected_to_be_held(call: Call) -> dict[str, Any]:
    lanes = ("interactive", "again", "batch")
    return {
        "entries": {name: int(call.is_open and name == call.lane) for name in lanes},
        "pending": {name: int(call.state == "running" and name == call.lane) for name in lanes},
        "queued": int(call.state == "queued"),
        "bytes": len(PAYLOAD) if call.is_open else 0,
        "classes": {name: int(call.state == "queued" and name == call.lane) for name in lanes},
    }


def plain(answer: Any) -> Any:
    """An answer as the specification writes it: text, and of claims no more than whose attempt it is."""
    if isinstance(answer, list):
        texts = [each.decode() if isinstance(each, bytes) else each for each in answer]
        if len(texts) == 8:  # a claimed call
            return [*texts[:3], int(texts[3])]
        return [json.loads(each)["status"] if isinstance(each, str) and each[:1] == "{" else each for each in texts]
    return answer


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_transition_from_every_reachable_state(redis_url: str) -> None:
    """Breadth first until no new state is found; each operation in each of them, as the specification says."""
    server = Server(redis_url)
    start = Call()
    paths: dict[Call, list[str]] = {start: []}
    frontier = [start]
    transitions = 0
    while frontier:
        following: list[Call] = []
        for call in frontier:
            for name, step in STEPS.items():
                if name == "submit-another" and call.state == "unknown":
                    continue  # it would be the first of its kind
                after, told = step(call)
                path = [*paths[call], name]
                answer, found, held = server.run(path)
                if told != "skip" and name != "recover":
                    assert plain(answer) == told, path
                assert not isinstance(answer, Exception), (path, answer)
                assert found == after, path
                has_turn = held.pop("has_turn")
                assert held == expected_to_be_held(after), path
                assert has_turn or after.state != "queued", f"queued, and nobody's turn: {path}"
                transitions += 1
                if after not in paths:
                    paths[after] = path
                    following.append(after)
        frontier = following
    states = len(paths)
    print(f"{states} states, {transitions} transitions, longest way {max(map(len, paths.values()))}")
    assert states > 300
    ends = {call.end for call in paths}
    assert ends == {None, "cancelled", "expired", "infra_error", "w1 1", "w1 2", "w2 1", "w2 2"}
