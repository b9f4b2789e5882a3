"""RoC, plain GRPO and a uniform half, from one checkpoint, in several seeds; and RoC with shuffled rewards.

`python -m loadtest.train_compare runs/demo/sft --out runs/compare` trains all of them, one after the other, against a
service of its own, and writes `compare.md` and `compare.html` from what is there. It can be stopped and started again.
The page states each figure with the bar it is held to; nothing is tuned here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.serve import temporary_service
from sandbox_service.trainer.recipe import NANO, Recipe, Stage
from sandbox_service.trainer.report import plot
from sandbox_service.trainer.roc import Selection
from sandbox_service.trainer.train import train, use_threads

ARMS = {
    "roc": Selection(keep=8),
    "grpo": Selection(keep=8, rule="all"),
    "uniform": Selection(keep=8, rule="uniform"),
    "shuffled": Selection(keep=8),
}
ACCURACY, WINDOW = 0.8, 5


def recipe(arm: str, base: str, steps: int) -> Recipe:
    """`base`: a Hugging Face folder with its tokenizer."""
    stage = Stage("1", steps=steps, data="one-call", max_tokens=160, turns=3)
    rl = replace(NANO.rl, selection=ARMS[arm], stages=(stage,), shuffle_rewards=arm == "shuffled")
    return replace(NANO, name=f"compare-{arm}", base=base, rl=rl)


async def run(arm: str, seed: int, options: argparse.Namespace, url: str) -> None:
    async with AsyncSandboxClient(url) as sandbox:
        wanted = recipe(arm, str(options.base), options.steps)
        await train(
            wanted, seed, options.out / f"{arm}-{seed}", sandbox, lambda line: print(arm, seed, line, flush=True)
        )


def matched(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first step whose mean reward over the last five is at least 80 %."""
    for index in range(WINDOW - 1, len(steps)):
        if sum(step["reward"] for step in steps[index - WINDOW + 1 : index + 1]) / WINDOW >= ACCURACY:
            return steps[index]
    return None


def page(out: Path) -> str:
    """What the runs show so far."""
    rows = ["| run | accuracy, last 5 steps | errors at 80 % (step) | errors at the last step | mean@4 after |"]
    rows.append("|---|---|---|---|---|")
    for folder in sorted(out.glob("*-*")):
        steps, evaluations = lines(folder / "metrics.jsonl"), lines(folder / "evaluations.jsonl")
        if not steps:
            continue
        last = steps[-WINDOW:]
        at = matched(steps)
        when = f"{at['errors_in_right']:.3f} ({at['step']})" if at else "not reached"
        after = f"{evaluations[-1]['mean']:.3f}" if len(evaluations) > 1 else "not evaluated"
        accuracy = sum(step["reward"] for step in last) / len(last)
        end = f"{steps[-1]['errors_in_right']:.3f} ({steps[-1]['step']})"
        rows.append(f"| {folder.name} | {accuracy:.3f} | {when} | {end} | {after} |")
    bars = (
        "Bars, per seed: RoC's errors at most 1/2 of GRPO's and of the uniform half's, at 80 % and at the last step; "
        "pooled at most 1/3 of GRPO's; accuracy within 3 points; shuffled not above its start + 5 points."
    )
    return "\n".join(["# RoC, GRPO and a uniform half", "", bars, "", *rows, ""])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, help="the policy to start from, as runs/demo/sft")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    use_threads(1)
    with temporary_service() as url:
        for seed in range(options.seeds):
            for arm in options.arms:
                asyncio.run(run(arm, seed, options, url))
    (options.out / "compare.md").write_text(page(options.out))
    runs = {folder.name: lines(folder / "metrics.jsonl") for folder in sorted(options.out.glob("*-*"))}
    (options.out / "compare.html").write_text(plot(runs))
    print(page(options.out))


if __name__ == "__main__":
    main()
