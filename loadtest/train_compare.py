"""RoC, plain GRPO and a uniform half, from one checkpoint, in several seeds; and RoC with shuffled rewards.

`python -m loadtest.train_compare runs/demo/sft --out runs/compare` trains all of them, one after the other, against a
service of its own, and after each one writes `compare.md` and `compare.svg` from what is there. It can be stopped and
started again. In a seed all arms see the same problems. Nothing is tuned here: `train_page.py` holds each figure
against its bar.

`python -m loadtest.train_compare --unlinked --out runs/unlinked` makes its SFT first, from traces in which a failed
call is no better a start than any other (`problems.plans`): what the choice of rollouts does without that link.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import replace
from pathlib import Path

from loadtest.train_page import page, read_runs, svg_of
from sandbox_service.client import AsyncSandboxClient
from sandbox_service.serve import temporary_service
from sandbox_service.trainer.recipe import NANO, Recipe, Stage
from sandbox_service.trainer.roc import Selection
from sandbox_service.trainer.train import Say, train, use_threads

ARMS = {
    "roc": Selection(keep=8),
    "grpo": Selection(keep=8, rule="all"),
    "uniform": Selection(keep=8, rule="uniform"),
    "shuffled": Selection(keep=8),
}


def recipe(arm: str, base: str, steps: int) -> Recipe:
    """`base`: a Hugging Face folder with its tokenizer. Only the control is evaluated before, too: all begin alike."""
    stage = Stage("1", steps=steps, data="one-call", max_tokens=160, turns=3)
    rl = replace(NANO.rl, selection=ARMS[arm], stages=(stage,), shuffle_rewards=arm == "shuffled")
    evaluation = replace(NANO.evaluation, data="held-out-one-call", at_start=arm == "shuffled")
    return replace(NANO, name=f"compare-{arm}", base=base, rl=rl, evaluation=evaluation)


def unlinked() -> Recipe:
    """The demonstration's SFT with the other traces, and no RL."""
    sft = replace(NANO.sft, traces={"unlinked": sum(NANO.sft.traces.values())})
    evaluation = replace(NANO.evaluation, data="held-out-one-call")
    return replace(NANO, name="compare-sft", sft=sft, rl=replace(NANO.rl, stages=()), evaluation=evaluation)


async def run(recipe: Recipe, seed: int, folder: Path, url: str, say: Say) -> None:
    async with AsyncSandboxClient(url) as sandbox:
        await train(recipe, seed, folder, sandbox, say)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("base", type=Path, nargs="?", help="the policy to start from, as runs/demo/sft")
    start.add_argument("--unlinked", action="store_true", help="make it, from traces where failing announces nothing")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    use_threads(1)
    begun = time.monotonic()

    def train_one(wanted: Recipe, seed: int, name: str, url: str) -> None:
        def say(line: str) -> None:
            print(f"{time.monotonic() - begun:7.1f} s  {name}: {line}", flush=True)

        asyncio.run(run(wanted, seed, options.out / name, url, say))

    with temporary_service() as url:
        base = options.base or options.out / "start" / "sft"
        if options.unlinked:
            train_one(unlinked(), 0, "start", url)
        for seed in range(options.seeds):
            for arm in options.arms:
                train_one(recipe(arm, str(base), options.steps), seed, f"{arm}-{seed}", url)
                runs = read_runs(options.out)
                (options.out / "compare.md").write_text(page(runs))
                (options.out / "compare.svg").write_text(svg_of(runs))
    print(page(read_runs(options.out)))


if __name__ == "__main__":
    main()
