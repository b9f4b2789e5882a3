"""A run's folder, and the state in it that a restart goes on from.

run.json          what is trained: recipe, seed, and the label of its calls
sft/              the policy after SFT      stages/NAME/   after each stage      (Hugging Face folders)
latest/           the policy, its optimizer and where training stands; replaced whole after every step
journal/STEP.jsonl  finished rollouts       metrics.jsonl, evaluations.jsonl     one line a step, an evaluation
lock              held by the process that trains here
"""

from __future__ import annotations

import fcntl
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.optim import AdamW

from sandbox_service.errors import SetupError
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.recipe import Recipe
from sandbox_service.trainer.tokens import Tokens

_STATE = "optimizer.pt"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Nobody else trains in the folder meanwhile. SetupError: somebody does; two would mix their rollouts."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another process is training in {folder}: end it, or choose another folder") from None
        yield


def refuse_folder(folder: Path, recipe: Recipe, seed: int) -> None:
    """Raise the SetupError with which a run in this folder would end, before a service is started for it."""
    if (folder / "lock").exists():
        with owned(folder):
            if (folder / "run.json").exists():
                open_run(folder, recipe, seed)


def open_run(folder: Path, recipe: Recipe, seed: int) -> str:
    """Return the run's label. SetupError: the folder holds a run of something else."""
    path, wanted = folder / "run.json", json.loads(json.dumps({"recipe": asdict(recipe), "seed": seed}))
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        found = json.loads(path.read_text())
        if {"recipe": found["recipe"], "seed": found["seed"]} != wanted:
            raise SetupError(
                f"{folder} holds a run of another recipe or seed or other files: choose another folder, or remove it"
            )
        return str(found["run"])
    run = f"{recipe.name}-{uuid.uuid4().hex[:8]}"
    _write(path, json.dumps({"run": run, **wanted}, indent=2))
    return run


def save_policy(folder: Path, policy: Policy, tokens: Tokens) -> None:
    """Write a Hugging Face folder, all of it or nothing."""
    _replace(folder, lambda new: _save(new, policy, tokens))


def save_latest(folder: Path, policy: Policy, tokens: Tokens, optimizer: AdamW, step: int, age: int) -> None:
    """`age`: steps since the optimizer began."""

    def save(new: Path) -> None:
        _save(new, policy, tokens)
        torch.save({"optimizer": optimizer.state_dict(), "step": step, "age": age}, new / _STATE)

    _replace(folder / "latest", save)


def load_latest(folder: Path, policy: Policy, optimizer: AdamW) -> tuple[int, int]:
    """Load weights and optimizer in place; return steps done and the optimizer's age: 0 at the start."""
    if not (folder / "latest").exists() and (folder / "latest.old").exists():
        (folder / "latest.old").rename(folder / "latest")  # it was killed between two renames
    if not (folder / "latest").exists():
        return 0, 0
    state = torch.load(folder / "latest" / _STATE)
    policy.load_state_dict(Policy.load(folder / "latest").state_dict())
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), int(state["age"])


class Lines:
    """A file of one JSON line for each `name`; what is told twice, as after a restart, counts once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.found: dict[str, dict[str, Any]] = {}
        for line in path.read_text().splitlines(keepends=True) if path.exists() else []:
            if line.endswith("\n"):
                self.found[json.loads(line)["name"]] = json.loads(line)

    def add(self, name: str, line: dict[str, Any]) -> None:
        self.found[name] = {"name": name, **line}
        _write(self._path, "".join(json.dumps(each) + "\n" for each in self.found.values()))


def _save(folder: Path, policy: Policy, tokens: Tokens) -> None:
    policy.save(folder)
    tokens.save(folder)


def _replace(folder: Path, fill: Any) -> None:
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left in (new, old):
        if left.exists() and (left is new or folder.exists()):
            shutil.rmtree(left)
    new.mkdir(parents=True)
    fill(new)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.rename(path)
