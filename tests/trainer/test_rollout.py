"""Rollouts over the client, with a scripted model: what is sent when, what is kept, what ends them, what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sandbox_service.errors import ServiceFault, Unavailable
from sandbox_service.models import Call, Checked, CheckStatus, Result, Status
from sandbox_service.trainer.groups import play_groups
from sandbox_service.trainer.inference import Generation, Sampling, Stop
from sandbox_service.trainer.journal import Journal
from sandbox_service.trainer.problems import answer_turn, call_turn
from sandbox_service.trainer.prompts import TEMPLATES, Piece
from sandbox_service.trainer.records import PARSE_ERROR, Problem, Rollout, StopReason
from sandbox_service.trainer.rollout import Play, Rules, play
from sandbox_service.trainer.tokens import Tokens
from sandbox_service.trainer.tools import Lost, Tools, Verifier

TOKENS = Tokens.load(Path(__file__).with_name("smoke"))
RULES = Rules(max_tokens=300, turns=3, temperature=1.0)
PROBLEM = Problem("6*7?", "42", "x")


def written(turn: str) -> list[int]:
    return TOKENS.encode([Piece(turn)])


class Script:
    """A model that says the same turns whoever asks, and notes what it was given."""

    name, capacity_tokens, preemptions, recomputed_tokens, used_tokens = "script", 10_000, 0, 0, 0

    def __init__(self, *turns: str) -> None:
        self.turns = [written(turn) for turn in turns]
        self.seen: dict[str, list[list[int]]] = {}
        self.left: dict[str, list[list[int]]] = {}
        self.released: list[str] = []

    async def generate(self, rollout: str, tokens: Sequence[int], max_new: int, sampling: Sampling) -> Generation:
        await asyncio.sleep(0)
        self.seen.setdefault(rollout, []).append(list(tokens))
        turns = self.left.setdefault(rollout, [list(turn) for turn in self.turns])
        said: list[int] = []
        while len(said) < max_new:
            said.append(turns[0].pop(0))
            if not turns[0]:
                del turns[0]
            if said[-1] in sampling.stop:
                return Generation(said, [-0.5] * len(said), Stop.END)
        return Generation(said, [-0.5] * len(said), Stop.LENGTH)

    def release(self, rollout: str) -> None:
        self.released.append(rollout)


class Service:
    """Stands for the client: a canned Result for each code."""

    def __init__(self, results: dict[str, Result | Exception]) -> None:
        self.results, self.calls, self.asked = results, list[Call](), list[tuple[str, str]]()
        self.on_call: Callable[[], None] = lambda: None

    async def run(self, call: Call) -> Result:
        self.calls.append(call)
        self.on_call()
        await asyncio.sleep(0.01)
        found = self.results[call.code]
        if isinstance(found, Exception):
            raise found
        return found

    async def verify_batch(self, pairs: Sequence[tuple[str, str]], **_: Any) -> list[Checked]:
        self.asked += pairs
        return [Checked(status=CheckStatus.OK, correct=answer == truth) for answer, truth in pairs]


def result(status: Status = Status.OK, **fields: Any) -> Result:
    return Result(id="x", status=status, **fields)


def playing(model: Script, service: Any) -> Play:
    return Play("r1", 0, TOKENS, TEMPLATES["short"], Tools(service, 2.0, 40), Verifier(service), model)


RIGHT = (call_turn("print(6*7)"), answer_turn(("42",)))


async def test_what_was_sampled_is_kept_and_what_the_engine_gets_only_grows() -> None:
    """The prefix property, masks, log-probabilities, labels, limits."""
    model, service = Script(*RIGHT), Service({"print(6*7)": result(stdout="42\n")})
    rollout = Rollout("7", 3, 5, PROBLEM)
    await play(rollout, RULES, playing(model, service))
    given = model.seen["7-3-5"]
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(given))
    assert rollout.tokens[: len(given[-1])] == given[-1]
    sampled = [token for token, ours in zip(rollout.tokens, rollout.mask, strict=True) if ours]
    assert sampled == [token for turn in map(written, RIGHT) for token in turn]
    assert [logprob != 0 for logprob in rollout.logprobs] == [bool(ours) for ours in rollout.mask]
    assert "<tool_response>42</tool_response>" in TOKENS.decode(rollout.tokens)
    assert (rollout.reward, rollout.stop, rollout.turns, rollout.answers) == (1.0, StopReason.DONE, 2, 1)
    assert service.calls[0].labels == {"run": "r1", "step": "7", "group": "3", "rollout": "5"}
    assert service.calls[0].limits.wall_s == 2.0
    assert model.released == ["7-3-5"]


async def test_a_call_leaves_before_its_turn_has_ended() -> None:
    two = call_turn("print(1)").replace("<|im_end|>", "") + call_turn("print(2)").removeprefix("use python</reason>")
    model = Script(two, answer_turn(("42",)))
    service = Service({"print(1)": result(stdout="1"), "print(2)": result(stdout="2")})
    asked: list[int] = []
    service.on_call = lambda: asked.append(len(model.seen["0-0-0"]))
    rollout = Rollout("0", 0, 0, PROBLEM)
    await play(rollout, RULES, playing(model, service))
    assert [call.code for call in service.calls] == ["print(1)", "print(2)"]
    assert asked[0] < 3  # the turn was generated in three parts, and the first call left before the last one
    assert [use.outcome for use in rollout.tools] == ["ok", "ok"]
    assert "<tool_response>1</tool_response><tool_response>2</tool_response>" in TOKENS.decode(rollout.tokens)


@pytest.mark.parametrize(
    ("turns", "stop", "answer"),
    [
        ((call_turn("print(6*7)"),) * 3, StopReason.TURNS, None),
        (("done</reason>" + "9" * 400,), StopReason.LENGTH, None),
        ((answer_turn(("41",)),), StopReason.DONE, "41"),
        (("done</reason><|im_end|>",), StopReason.DONE, None),
    ],
)
async def test_why_rollouts_end(turns: tuple[str, ...], stop: StopReason, answer: str | None) -> None:
    rollout = Rollout("0", 0, 0, PROBLEM)
    service = Service({"print(6*7)": result(stdout="42")})
    await play(rollout, RULES, playing(Script(*turns), service))
    assert (rollout.stop, rollout.answer, rollout.reward) == (stop, answer, 0.0)
    assert len(service.calls) == (2 if stop is StopReason.TURNS else 0)  # nobody would read the last turn's
    assert rollout.sampled <= RULES.max_tokens


async def test_a_call_that_cannot_be_read_is_told_to_the_model_and_counted() -> None:
    rollout = Rollout("0", 0, 0, PROBLEM)
    model = Script(call_turn("print(1)", broken=True), answer_turn(("42",)))
    await play(rollout, RULES, playing(model, Service({})))
    assert [use.outcome for use in rollout.tools] == [PARSE_ERROR]
    assert "error: the call must be JSON" in TOKENS.decode(rollout.tokens)
    assert rollout.reward == 1.0


@pytest.mark.parametrize(
    "fault", [result(Status.INFRA_ERROR), result(Status.EXPIRED), result(Status.CANCELLED), Unavailable("gone")]
)
async def test_a_fault_of_the_service_loses_the_rollout_and_scores_nothing(fault: Result | Exception) -> None:
    with pytest.raises(Lost):
        await play(Rollout("0", 0, 0, PROBLEM), RULES, playing(Script(*RIGHT), Service({"print(6*7)": fault})))


async def test_too_many_faults_stop_the_run(tmp_path: Path) -> None:
    how = playing(Script(*RIGHT), Service({"print(6*7)": result(Status.INFRA_ERROR, message="broken")}))
    with pytest.raises(ServiceFault, match=r"2 rollouts of step 1 were lost.*broken"):
        await play_groups("1", [PROBLEM] * 2, 4, RULES, how, tmp_path, 0.2)
    how = playing(Script(*RIGHT), Service({"print(6*7)": result(stdout="42")}))
    groups, lost = await play_groups("1", [PROBLEM] * 2, 4, RULES, how, tmp_path, 0.2)
    assert ([len(group) for group in groups], lost) == ([4, 4], 0)  # the lost ones got another chance


async def test_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    """Not even when a line was cut by a kill; and nothing counts twice."""
    service = Service({"print(6*7)": result(stdout="42")})
    first, _ = await play_groups("1", [PROBLEM] * 2, 3, RULES, playing(Script(*RIGHT), service), tmp_path, 0.0)
    path = tmp_path / "1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:4]) + lines[4][:50])
    service.calls.clear()
    again, _ = await play_groups("1", [PROBLEM] * 2, 3, RULES, playing(Script(*RIGHT), service), tmp_path, 0.0)
    assert len(service.calls) == 2
    assert [[rollout.key for rollout in group] for group in again] == [[("1", g, n) for n in range(3)] for g in (0, 1)]
    assert again[0] == first[0]
    journal = Journal(path)
    with pytest.raises(ValueError, match="already"):
        journal.add(first[0][0])
    journal.close(complete=True)


async def test_each_pair_is_verified_once() -> None:
    service: Any = Service({})
    verifier = Verifier(service)
    assert await asyncio.gather(*(verifier.is_right("42", truth) for truth in ("42", "41", "42"))) == [
        True,
        False,
        True,
    ]
    assert sorted(service.asked) == [("42", "41"), ("42", "42")]
