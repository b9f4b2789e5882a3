"""Finished rollouts on disk, one line each, so that a run that was killed goes on without playing them again.

A file holds one step (or evaluation, or filter). Invariants: a rollout counts once; a line that was cut by a kill is
as if it had never been; rollouts that the service lost stay lost once the step is complete, so that what is learned
from a journal is always the same, bit by bit: JSON keeps each log-probability exactly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sandbox_service.trainer.records import Rollout

Key = tuple[str, int, int]


class Journal:
    """Opened for one step; `add` and `lose` are on disk (in the kernel's hands) when they return."""

    def __init__(self, path: Path) -> None:
        self.rollouts: dict[Key, Rollout] = {}
        self.lost: dict[Key, str] = {}
        self.complete = False
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        for line, end in _whole_lines(path):
            whole = end
            if "rollout" in line:
                rollout = Rollout.from_json(line["rollout"])
                self.rollouts[rollout.key] = rollout
            elif "lost" in line:
                step, group, number = line["lost"]
                self.lost[(step, group, number)] = line["why"]
            else:
                self.complete = True
        if not self.complete:
            self.lost.clear()  # they get another chance
        self._file = path.open("ab")
        self._file.truncate(whole)

    def add(self, rollout: Rollout) -> None:
        if rollout.key in self.rollouts:
            raise ValueError(f"rollout {rollout.key} is in the journal already")
        self.rollouts[rollout.key] = rollout
        self._write({"rollout": rollout.to_json()})

    def lose(self, rollout: Rollout, why: str) -> None:
        self.lost[rollout.key] = why
        self._write({"lost": rollout.key, "why": why})

    def close(self, *, complete: bool) -> None:
        if complete and not self.complete:
            self.complete = True
            self._write({"complete": True})
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()


def read_rollouts(path: Path) -> dict[Key, Rollout]:
    """What a journal holds; only reads, so a run may be writing it."""
    found = [Rollout.from_json(line["rollout"]) for line, _ in _whole_lines(path) if "rollout" in line]
    return {rollout.key: rollout for rollout in found}


def _whole_lines(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Each whole line, with where it ends."""
    end = 0
    if not path.exists():
        return
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        yield json.loads(line), end
