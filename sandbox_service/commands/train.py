"""`train`: finds or starts the service, and hands over to the trainer."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import TYPE_CHECKING

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.commands.run import read_key
from sandbox_service.errors import SetupError

if TYPE_CHECKING:
    from sandbox_service.trainer.given import Given
    from sandbox_service.trainer.recipe import Recipe


def train(options: argparse.Namespace) -> int:
    from sandbox_service.trainer.recipe import RECIPES

    recipe = RECIPES.get(options.recipe)
    if recipe is None:
        raise SetupError(f"no recipe {options.recipe!r}; there are: {', '.join(RECIPES)}")
    own = options.base or options.sft or options.problems
    if own and (options.dry_run or options.emit):
        raise SetupError("--base, --sft and --problems are of a run here, not of --dry-run or --emit")
    if options.dry_run:
        print(recipe.describe())
        return 0
    if options.emit:
        from sandbox_service.integrations.emit import emit

        if not isinstance(recipe.base, str):
            others = ", ".join(name for name, other in RECIPES.items() if isinstance(other.base, str))
            raise SetupError(
                f"{recipe.name} is for this trainer alone, which makes its model and its problems: "
                f"write another recipe for {options.emit}, with --recipe {others}"
            )
        for path in emit(recipe, options.out):
            print(path)
        return 0
    if not recipe.available and not (options.base and options.sft and options.problems):
        raise SetupError(
            f"the data of {recipe.name} are not published: read it with --dry-run, emit it with --emit verl, or run it "
            "with yours (--base, --sft and --problems)"
        )
    if options.base:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (options.base / name).exists():
                raise SetupError(f"{options.base} is no Hugging Face folder that can be trained here: it has no {name}")
        recipe = replace(recipe, base=str(options.base))
    from sandbox_service.trainer.given import given

    found = given(options.sft, options.problems)
    if options.url:
        with _stoppable():
            return _train(recipe, options, options.url, found)
    from sandbox_service.serve import temporary_service
    from sandbox_service.trainer.checkpoint import refuse_folder

    refuse_folder(options.out, replace(recipe, files=found.files), options.seed)
    with temporary_service() as url, _stoppable():
        return _train(recipe, options, url, found)


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does; who stopped it is told how it goes on."""
    before = signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        yield
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _as_ctrl_c(_number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)  # asyncio's, while it runs
    if not callable(handler):  # ignored, as in a shell's background job
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


def _train(recipe: Recipe, options: argparse.Namespace, url: str | list[str], found: Given) -> int:
    from sandbox_service.trainer.train import train as run
    from sandbox_service.trainer.train import use_threads

    use_threads(options.threads)
    key = read_key(options.api_key_file)
    begun = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {line}", flush=True)

    async def go() -> None:
        async with AsyncSandboxClient(url, api_key=key) as sandbox:
            await run(recipe, options.seed, options.out, sandbox, say, found)

    asyncio.run(go())
    from sandbox_service.trainer.report import write_report

    say(f"the report is {write_report(options.out)}")
    return 0
