"""Why RoC makes the share of tool errors that it makes: what the rollouts of a comparison show, and a model of it.

`python -m loadtest.train_selection runs/compare` reads the journals of `loadtest.train_compare`: how a rollout fares
by how its first call ended, what there was to choose from, what other rules would have chosen. Without a folder it is
the model alone. There a policy is two choices in each family: its first move (a call that runs, a call that fails and
is then repaired, a guess), and whether the program is right, after each of the two. They start at the shares of the SFT
traces and follow the policy gradient of GRPO over groups of sixteen, with the trainer's own `select` and `advantages`;
whatever a network shares between families or costs in tokens is left out. One number is fitted, the step size: 0.3
brings GRPO to 80 % in as many steps as was measured. The ratios hardly depend on it (0.3 to 8 were tried).
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from loadtest.train_page import ACCURACY, WINDOW
from sandbox_service.trainer.groups import Group
from sandbox_service.trainer.journal import read_rollouts
from sandbox_service.trainer.loss import advantages
from sandbox_service.trainer.measure import error_ratio
from sandbox_service.trainer.problems import MIX, ONE_CALL
from sandbox_service.trainer.recipe import NANO
from sandbox_service.trainer.records import Rollout
from sandbox_service.trainer.rewards import p_err, p_total
from sandbox_service.trainer.roc import Rule, Selection, select

RULES: tuple[Rule, ...] = ("all", "uniform", "roc", "topk")
RUNS, FAILS, GUESS = range(3)
PENALTIES = (0.0, 0.5, 0.5)
"""p_err of a rollout by its first move: one call that ran, one of two that failed, no call."""
STEP_SIZE = 0.3


@dataclass
class Habit:
    """Of one family, as logits."""

    first: list[float]
    right: list[float]
    """After a call that ran, and after one that failed."""


@dataclass(frozen=True)
class Curve:
    accuracy: list[float]
    errors: list[float]
    """In correct rollouts, by call."""

    def matched(self) -> int | None:
        """The first step at matched accuracy, from 0."""
        steps = range(WINDOW - 1, len(self.accuracy))
        return next((at for at in steps if fmean(self.accuracy[at - WINDOW + 1 : at + 1]) >= ACCURACY), None)


def learned_from(family: str, *, linked: bool) -> Habit:
    """What SFT leaves: the shares of its traces (`problems.plans`; a format fault is half the time a failed call)."""
    right, bug, wrong, guess, untidy = MIX[family]
    runs, fails = right + wrong + untidy / 2, bug + untidy / 2
    rare = family == "count"
    if linked:
        shares = [(right + (0 if rare else untidy / 2)) / runs, 0.0 if rare else 1.0]
    else:
        shares = [(right + bug) / (right + bug + wrong)] * 2
    return Habit([math.log(runs), math.log(fails), math.log(guess)], [_logit(share) for share in shares])


def predict(rule: Rule, seed: int, *, linked: bool, steps: int = 30, step_size: float = STEP_SIZE) -> Curve:
    """One training run of the model."""
    rng = random.Random(f"{seed}/{linked}")  # noqa: S311
    families = [make.__name__ for make in ONE_CALL]
    habits = {family: learned_from(family, linked=linked) for family in families}
    curve = Curve([], [])
    for _ in range(steps):
        groups = [_play(habits[families[n % len(families)]], rng) for n in range(NANO.rl.prompts)]
        rollouts = [rollout for moves, rewards in groups for rollout in zip(moves, rewards, strict=True)]
        right = [move for move, reward in rollouts if reward]
        curve.accuracy.append(len(right) / len(rollouts))
        curve.errors.append(right.count(FAILS) / max(1, len(right) + right.count(FAILS)))
        changes = [
            (habit, _gradient(habit, moves, rewards, rule, rng))
            for n, (moves, rewards) in enumerate(groups)
            for habit in [habits[families[n % len(families)]]]
        ]
        for habit, (first, after) in changes:
            habit.first = [logit + step_size * change for logit, change in zip(habit.first, first, strict=True)]
            habit.right = [logit + step_size * change for logit, change in zip(habit.right, after, strict=True)]
    return curve


def _play(habit: Habit, rng: random.Random) -> tuple[list[int], list[float]]:
    moves = rng.choices(range(3), _softmax(habit.first), k=NANO.rl.rollouts)
    return moves, [float(move != GUESS and rng.random() < _sigmoid(habit.right[move])) for move in moves]


def _gradient(
    habit: Habit, moves: Sequence[int], rewards: Sequence[float], rule: Rule, rng: random.Random
) -> tuple[list[float], list[float]]:
    """Of the mean over what was kept of advantage times log-probability."""
    first, after = [0.0] * 3, [0.0] * 2
    penalties = [PENALTIES[move] for move in moves]
    kept = select(rewards, penalties, Selection(NANO.rl.selection.keep, rule), rng) or []
    odds = _softmax(habit.first)
    for index, advantage in zip(kept, advantages([rewards[i] for i in kept]) if kept else [], strict=True):
        move, gain = moves[index], advantage / len(kept)
        first = [change + gain * ((n == move) - odds[n]) for n, change in enumerate(first)]
        if move != GUESS:
            after[move] += gain * (rewards[index] - _sigmoid(habit.right[move]))
    return first, after


def prediction(seeds: int) -> str:
    lines = [
        "| traces | rule | 80 % at step | errors then | at step 30 | of GRPO's, then | at step 30 |",
        "|---|---|---|---|---|---|---|",
    ]
    for linked in (True, False):
        found = {rule: _means([predict(rule, seed, linked=linked) for seed in range(seeds)]) for rule in RULES}
        for rule, (when, then, last) in found.items():
            ratios = f"{then / found['all'][1]:.2f} | {last / found['all'][2]:.2f}"
            name = "as they are" if linked else "unlinked"
            lines.append(f"| {name} | {rule} | {when:.1f} | {then:.3f} | {last:.3f} | {ratios} |")
    return "\n".join(lines)


def _means(curves: Sequence[Curve]) -> tuple[float, float, float]:
    """Over the runs that get to 80 %: the step, the errors then, and of all the errors at the end."""
    reached = [(at, curve.errors[at]) for curve in curves if (at := curve.matched()) is not None]
    return (
        fmean(at + 1 for at, _ in reached),
        fmean(errors for _, errors in reached),
        fmean(c.errors[-1] for c in curves),
    )


# ---- what was measured --------------------------------------------------------------------------------------------


def measured(folder: Path, window: int = 5) -> str:
    """A table of all arms but the control, each with its seeds together."""
    lines = [
        "| arm, steps | right | errors in right ones | right ones with an error | failed first | right if so "
        "| right if the first call ran | groups with a choice | errors of mixed groups | kept by roc | by topk |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]

    def place(path: Path) -> tuple[str, int]:
        return path.parts[-3].rpartition("-")[0], (int(path.stem) - 1) // window

    journals = [path for path in folder.glob("*-*/journal/*.jsonl") if path.stem.isdecimal()]
    of_arms = [path for path in journals if not path.parts[-3].startswith("shuffled")]
    for (arm, part), paths in groupby(sorted(of_arms, key=place), key=place):
        about = _window([group for path in paths for group in _groups(path)])
        lines.append(f"| {arm}, {part * window + 1} to {(part + 1) * window} | {about} |")
    return "\n".join(lines)


def _groups(journal: Path) -> list[Group]:
    rollouts = sorted(read_rollouts(journal).values(), key=lambda rollout: rollout.key)
    return [list(group) for _, group in groupby(rollouts, key=lambda rollout: rollout.group)]


def _window(groups: Sequence[Group]) -> str:
    """One row. A group has a choice if some of its rollouts are wrong and the right ones differ in p_total."""
    rollouts = [rollout for group in groups for rollout in group]
    failed = [rollout for rollout in rollouts if rollout.tools and p_err([rollout.tools[0].outcome])]
    ran = [rollout for rollout in rollouts if rollout.tools and not p_err([rollout.tools[0].outcome])]
    mixed = [group for group in groups if 0 < len(_right(group)) < len(group)]
    choice = [group for group in mixed if len({p_total(rollout) for rollout in _right(group)}) > 1]
    kept = [_kept_errors(mixed, rule) for rule in ("all", "roc", "topk")]
    right = _right(rollouts)
    with_error = [rollout for rollout in right if error_ratio([rollout])]
    shares = [
        _share(right, rollouts), error_ratio(right), _share(with_error, right), _share(failed, rollouts),
        _share(_right(failed), failed), _share(_right(ran), ran), _share(choice, groups), *kept,
    ]  # fmt: skip
    return " | ".join(f"{share:.2f}" for share in shares)


def _kept_errors(groups: Iterable[Group], rule: Rule) -> float:
    """Tool errors in the correct rollouts that a rule would train on."""
    rng, kept = random.Random(0), []  # noqa: S311
    for group in groups:
        rewards, penalties = [rollout.reward for rollout in group], [p_total(rollout) for rollout in group]
        picked = select(rewards, penalties, Selection(NANO.rl.selection.keep, rule), rng)
        kept += [group[index] for index in picked or []]
    return error_ratio(_right(kept))


def _right(rollouts: Iterable[Rollout]) -> list[Rollout]:
    return [rollout for rollout in rollouts if rollout.reward > 0]


def _share(part: Sequence[object], whole: Sequence[object]) -> float:
    return len(part) / max(1, len(whole))


def _logit(share: float) -> float:
    share = min(max(share, 0.001), 0.98)  # nothing is certain after SFT
    return math.log(share / (1 - share))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _softmax(logits: Sequence[float]) -> list[float]:
    weights = [math.exp(logit - max(logits)) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of a comparison, as runs/compare")
    parser.add_argument("--seeds", type=int, default=20, help="runs of the model (default: %(default)s)")
    options = parser.parse_args()
    if options.folder and not options.folder.is_dir():
        parser.error(f"there is no {options.folder}: `make train-compare` makes one")
    if options.folder:
        print(measured(options.folder), end="\n\n")
    print(prediction(options.seeds))


if __name__ == "__main__":
    main()
