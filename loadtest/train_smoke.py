"""A real run in miniature: from a small checkpoint after an unfinished SFT, twelve steps of GRPO-RoC.

`python -m loadtest.train_smoke runs/smoke` ends with 1 if accuracy at temperature 1 on held-out problems did not rise
by 20 points. Not yet measured on idle cores.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from loadtest.train_compare import lines
from sandbox_service.client import AsyncSandboxClient
from sandbox_service.serve import temporary_service
from sandbox_service.trainer.recipe import NANO, Evaluation, Recipe, Stage
from sandbox_service.trainer.train import train, use_threads

CHECKPOINT = Path(__file__).parent.parent / "tests" / "trainer" / "smoke"
POINTS = 0.20


def recipe() -> Recipe:
    stage = Stage("1", steps=12, data="one-call", max_tokens=160, turns=3)
    evaluation = Evaluation("held-out", problems=96, samples=2, temperature=1.0, max_tokens=224, turns=4)
    rl = replace(NANO.rl, stages=(stage,))
    return replace(NANO, name="smoke", base=str(CHECKPOINT), rl=rl, evaluation=evaluation)


async def main(folder: Path, url: str) -> int:
    async with AsyncSandboxClient(url) as sandbox:
        await train(recipe(), 0, folder, sandbox, lambda line: print(line, flush=True))
    before, after = lines(folder / "evaluations.jsonl")
    print(f"mean {before['mean']:.3f} before, {after['mean']:.3f} after; lost {before['lost'] + after['lost']}")
    return int(after["mean"] < before["mean"] + POINTS)


if __name__ == "__main__":
    use_threads(1)
    with temporary_service() as found:
        sys.exit(asyncio.run(main(Path(sys.argv[1]), found)))
