"""Many rollouts at once: all of a step, of a filter or of an evaluation, played or taken from the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sandbox_service.errors import ServiceFault
from sandbox_service.trainer.journal import Journal
from sandbox_service.trainer.records import Problem, Rollout
from sandbox_service.trainer.rollout import Play, Rules, play
from sandbox_service.trainer.tools import Lost

Group = list[Rollout]
"""Rollouts of one problem, in order; fewer than were asked for where the service lost some."""


async def play_groups(
    step: str, problems: Sequence[Problem], count: int, rules: Rules, how: Play, folder: Path, max_lost: float
) -> tuple[list[Group], int]:
    """Play each problem `count` times, all at once; return the groups and how many rollouts were lost.

    ServiceFault: more than the share `max_lost` was lost. What was played stays in the journal in `folder`.
    """
    journal = Journal(folder / f"{step}.jsonl")
    most = max_lost * len(problems) * count

    async def one(rollout: Rollout) -> None:
        try:
            await play(rollout, rules, how)
        except Lost as why:
            journal.lose(rollout, str(why))
            if len(journal.lost) > most:
                raise ServiceFault(
                    f"{len(journal.lost)} rollouts of step {step} were lost, the last one: {why}"
                ) from why
        else:
            journal.add(rollout)

    fresh = [
        rollout
        for group, problem in enumerate(problems)
        for number in range(count)
        if (rollout := Rollout(step, group, number, problem)).key not in journal.rollouts
    ]
    tasks = [] if journal.complete else [asyncio.create_task(one(rollout)) for rollout in fresh]
    complete = False
    try:
        await asyncio.gather(*tasks)
        complete = True
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        journal.close(complete=complete)
    groups: list[Group] = [[] for _ in problems]
    for key in sorted(journal.rollouts):
        groups[key[1]].append(journal.rollouts[key])
    return groups, len(journal.lost)
