"""What `train data` wrote, for our own trainer: conversations for SFT, problems for RL, in place of the recipe's own.

SetupError says which row of which file is not what it should be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sandbox_service.errors import SetupError
from sandbox_service.trainer.problems import is_held_out
from sandbox_service.trainer.records import Problem
from sandbox_service.trainer.rows import read_rows
from sandbox_service.trainer.sources import Messages

_ROLES = ("system", "user", "assistant")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Given:
    """What a run was given, in place of what its recipe makes; an empty list: nothing."""

    conversations: Sequence[Messages] = ()
    problems: Sequence[Problem] = ()
    """To train on."""
    held_out: Sequence[Problem] = ()
    """An eighth of the questions, by their hash: no file and no order decides which."""
    files: tuple[str, ...] = ()
    """Names and contents: a run goes on with the same ones only."""


NOTHING = Given()


def given(sft: Sequence[Path], rl: Sequence[Path]) -> Given:
    """Read files of `train data`; an empty sequence gives nothing of that kind."""
    conversations = [made for path in sft for made in _rows(path, "SFT", _conversation)]
    problems = [made for path in rl for made in _rows(path, "RL", _problem)]
    sides: tuple[list[Problem], list[Problem]] = ([], [])
    for problem in problems:
        sides[is_held_out(problem.question)].append(problem)
    if problems and not all(sides):
        raise SetupError(
            f"{', '.join(map(str, rl))}: {len(sides[1])} of {len(problems)} problems are held out for the evaluation, "
            "an eighth by a hash of the question; there must be some on each side: give more"
        )
    files = tuple(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in (*sft, *rl))
    return Given(conversations, *sides, files)


def _rows(path: Path, kind: str, make: Callable[[Any, Path], _Made]) -> Iterator[_Made]:
    number = 0
    for number, row in read_rows(path):
        try:
            yield make(row, path)
        except (KeyError, TypeError, ValueError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise SetupError(f"{path}: row {number} is none that `train data` writes for {kind}: {why}") from None
    if not number:
        raise SetupError(f"{path} has no rows")


def _conversation(row: Any, _: Path) -> Messages:
    messages: Messages = row["messages"]
    for turn in messages:
        if turn["role"] not in _ROLES or not isinstance(turn["content"], str):
            raise ValueError(f"a message is a text of {', '.join(_ROLES)}")
    if all(turn["role"] != "assistant" for turn in messages):
        raise ValueError("the assistant says nothing")
    return messages


def _problem(row: Any, path: Path) -> Problem:
    (turn,) = row["prompt"]
    question, answer = turn["content"], row["reward_model"]["ground_truth"]
    if not isinstance(question, str) or not isinstance(answer, str):
        raise TypeError("question and answer must be texts")
    return Problem(question, answer, path.stem)
