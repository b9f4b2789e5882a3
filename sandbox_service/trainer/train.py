"""The training loop: SFT, then stages of GRPO-RoC, evaluated between them, with the service in the loop.

Killed at any moment, the next start with the same folder goes on where it was: the weights after the last whole step,
the finished rollouts of the one under way (`checkpoint.py`, `journal.py`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.optim import AdamW

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.client.tools import ToolCallError
from sandbox_service.models import Call
from sandbox_service.trainer.checkpoint import Lines, load_latest, open_run, owned, save_latest, save_policy
from sandbox_service.trainer.engine import LocalEngine
from sandbox_service.trainer.fleet import Fleet
from sandbox_service.trainer.groups import Group, play_groups
from sandbox_service.trainer.inference import Engine
from sandbox_service.trainer.measure import by_family, describe, describe_kept, interval, scores
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.problems import plans, problems
from sandbox_service.trainer.prompts import TEMPLATES
from sandbox_service.trainer.recipe import Architecture, Recipe, Stage
from sandbox_service.trainer.records import Problem
from sandbox_service.trainer.rollout import Play, Rules
from sandbox_service.trainer.sft import train_sft
from sandbox_service.trainer.step import choose, update
from sandbox_service.trainer.tokens import Tokens
from sandbox_service.trainer.tools import Tools, Verifier
from sandbox_service.trainer.traces import encode, make_traces, text

Say = Callable[[str], None]


def use_threads(count: int) -> None:
    """One by default: the service wants the other CPUs, and sums then do not depend on how they are split."""
    torch.set_num_threads(count)


async def train(recipe: Recipe, seed: int, folder: Path, sandbox: AsyncSandboxClient, say: Say) -> None:
    """Do whatever is left to do of a run. ServiceFault: the service lost too many rollouts; start again later."""
    with owned(folder):
        run = open_run(folder, recipe, seed)
        if left := await sandbox.cancel_label("run", run):
            say(f"cancelled {left} calls that an earlier start of {run} had left")
        if not (folder / "sft").exists():
            await start(recipe, seed, folder, sandbox, run, say)
        await Training(recipe, seed, folder, sandbox, run, say).run()


async def start(recipe: Recipe, seed: int, folder: Path, sandbox: AsyncSandboxClient, run: str, say: Say) -> None:
    """The policy that RL starts from: made by SFT, or a folder that is there already."""
    if isinstance(recipe.base, str):
        return save_policy(folder / "sft", Policy.load(Path(recipe.base)), Tokens.load(Path(recipe.base)))
    policy, tokens = await _sft(recipe, recipe.base, seed, sandbox, run, say)
    return save_policy(folder / "sft", policy, tokens)


async def _sft(
    recipe: Recipe, shape: Architecture, seed: int, sandbox: AsyncSandboxClient, run: str, say: Say
) -> tuple[Policy, Tokens]:
    tools, labels = Tools(sandbox, recipe.rl.tool_wall_s, recipe.rl.response_chars), {"run": run, "step": "sft"}

    async def output(call: Call | ToolCallError) -> str:
        return (await tools.run(call, labels))[1]

    say("making the traces of the SFT; their tool calls run in the service")
    traces = await make_traces(plans(seed, recipe.sft.traces), TEMPLATES[recipe.template], output)
    tokens = Tokens.train(map(text, traces), shape.vocabulary)
    torch.manual_seed(seed)
    policy = Policy(replace(shape, vocabulary=tokens.size))

    def report(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0 or step == steps:
            say(f"SFT step {step}/{steps}: loss {loss:.4f}")

    train_sft(policy, [encode(trace, tokens) for trace in traces], recipe.sft, seed, report)
    return policy, tokens


def local_engines(policy: Policy, recipe: Recipe) -> Engine:
    """One engine, or several behind the scheduler."""
    rl = recipe.rl
    engines = [LocalEngine(policy, rl.kv_tokens, name=f"local-{n}") for n in range(rl.engines)]
    if len(engines) == 1:
        return engines[0]
    longest = max(recipe.evaluation.max_tokens, *(stage.max_tokens for stage in rl.stages))
    return Fleet(rl.scheduling, longest, engines)


class Training:
    """The RL of one run."""

    def __init__(
        self, recipe: Recipe, seed: int, folder: Path, sandbox: AsyncSandboxClient, run: str, say: Say
    ) -> None:
        self.recipe, self.seed, self.folder, self.say = recipe, seed, folder, say
        self.tokens, self.policy = Tokens.load(folder / "sft"), Policy.load(folder / "sft")
        self.metrics, self.evaluations = Lines(folder / "metrics.jsonl"), Lines(folder / "evaluations.jsonl")
        self.sandbox = sandbox
        tools = Tools(sandbox, recipe.rl.tool_wall_s, recipe.rl.response_chars)
        engine = local_engines(self.policy, recipe)
        template = TEMPLATES[recipe.template]
        self.how = Play(run, seed, self.tokens, template, tools, Verifier(sandbox), engine)

    async def run(self) -> None:
        optimizer = self._optimizer()
        done, age = load_latest(self.folder, self.policy, optimizer)
        if not done and self.recipe.evaluation.at_start:
            await self.evaluate("sft")
        first = 1
        for stage in self.recipe.rl.stages:
            last = first + stage.steps - 1
            if done < last:
                if stage.reset_optimizer and done < first:
                    optimizer, age = self._optimizer(), 0
                draw = await self._source(stage)
                for step in range(max(first, done + 1), last + 1):
                    age += 1
                    await self._step(stage, step, draw(step), optimizer, age)
                    save_latest(self.folder, self.policy, self.tokens, optimizer, step, age)
            if done <= last:
                save_policy(self.folder / "stages" / stage.name, self.policy, self.tokens)
                await self.evaluate(stage.name)
            first = last + 1

    async def _step(self, stage: Stage, step: int, asked: list[Problem], optimizer: AdamW, age: int) -> None:
        rl, begun = self.recipe.rl, time.monotonic()
        groups, lost = await self._play(str(step), asked, rl.rollouts, self._rules(stage))
        if rl.shuffle_rewards:
            _shuffle(groups, random.Random(f"{self.seed}/shuffle/{step}"))
        kept = choose(groups, rl, f"{self.seed}/{step}")
        for group in optimizer.param_groups:
            group["lr"] = rl.lr * min(1.0, age / rl.warmup_steps)
        played = time.monotonic()
        trained = update(self.policy, optimizer, kept, rl)
        times = {"played_s": played - begun, "trained_s": time.monotonic() - played}
        told = {**describe(groups), **describe_kept(kept), **asdict(trained), **times}
        line = {"stage": stage.name, "step": step, "lost": lost, **told}
        self.metrics.add(str(step), line)
        self.say(
            f"stage {stage.name} step {step}: reward {line['reward']:.3f}, tool errors in correct rollouts "
            f"{line['errors_in_right']:.3f}, {line['calls']:.2f} calls and {line['tokens']:.0f} tokens a rollout, "
            f"{trained.groups} groups, {times['played_s']:.1f} + {times['trained_s']:.1f} s"
        )

    async def _source(self, stage: Stage) -> Callable[[int], list[Problem]]:
        """Where a stage's problems come from: new ones in each step, or a fixed set without those that are solved."""
        count = self.recipe.rl.prompts
        if not stage.problems:
            return lambda step: problems(stage.data, f"{self.seed}/{step}", count)
        pool = problems(stage.data, f"{self.seed}/{stage.name}", stage.problems)
        if stage.drop_solved:
            played, _ = await self._play(f"filter-{stage.name}", pool, stage.drop_solved, self._rules(stage))
            pool = [problem for problem, found in zip(pool, scores(played), strict=True) if found < 1.0]
            self.say(f"stage {stage.name}: {stage.problems - len(pool)} of {stage.problems} problems are solved")
            if len(pool) < count:
                self.say(f"stage {stage.name}: {len(pool)} problems are left, so some come more than once a step")
        order = _cycle(pool, random.Random(f"{self.seed}/order/{stage.name}"))
        batches: list[list[Problem]] = []

        def draw(step: int) -> list[Problem]:
            index = step - self._first(stage)
            while len(batches) <= index:
                batches.append([next(order) for _ in range(count)])
            return batches[index]

        return draw

    async def evaluate(self, name: str) -> None:
        """mean@k with a bootstrap interval over problems, and greedy, on held-out problems; done once per name."""
        if name in self.evaluations.found:
            return
        wanted = self.recipe.evaluation
        asked = problems(wanted.data, 0, wanted.problems)
        rules = Rules(wanted.max_tokens, wanted.turns, wanted.temperature)
        sampled, lost = await self._play(f"eval-{name}", asked, wanted.samples, rules)
        greedy, greedy_lost = await self._play(f"greedy-{name}", asked, 1, replace(rules, temperature=0.0))
        means = scores([group for group in sampled if group])
        best = scores([group for group in greedy if group])
        line = {
            "mean": sum(means) / len(means),
            "any": sum(score > 0 for score in means) / len(means),
            "interval": interval(means),
            "greedy": sum(best) / len(best),
            "greedy_interval": interval(best),
            "by_family": by_family(sampled),
            "scores": means,
            "lost": lost + greedy_lost,
            **describe(sampled),
        }
        self.evaluations.add(name, line)
        low, high = line["interval"]
        self.say(
            f"after {name}: mean@{wanted.samples} {line['mean']:.1%} ({low:.1%} to {high:.1%}), greedy "
            f"{line['greedy']:.1%}, tool errors in correct rollouts {line['errors_in_right']:.3f}"
        )

    async def _play(self, step: str, asked: list[Problem], count: int, rules: Rules) -> tuple[list[Group], int]:
        journal, most = self.folder / "journal", self.recipe.rl.max_infra_share
        return await play_groups(step, asked, count, rules, self.how, journal, most)

    def _rules(self, stage: Stage) -> Rules:
        return Rules(stage.max_tokens, stage.turns, self.recipe.rl.temperature)

    def _first(self, stage: Stage) -> int:
        stages = self.recipe.rl.stages
        return 1 + sum(before.steps for before in stages[: stages.index(stage)])

    def _optimizer(self) -> AdamW:
        rl = self.recipe.rl
        return AdamW(self.policy.parameters(), lr=rl.lr, betas=rl.betas, weight_decay=rl.weight_decay)


def _cycle(pool: list[Problem], rng: random.Random) -> Iterator[Problem]:
    """Epoch after epoch, each in a new order."""
    while True:
        yield from rng.sample(pool, len(pool))


def _shuffle(groups: list[Group], rng: random.Random) -> None:
    """The control: each rollout gets another one's reward."""
    rollouts = [rollout for group in groups for rollout in group]
    rewards = rng.sample([rollout.reward for rollout in rollouts], len(rollouts))
    for rollout, reward in zip(rollouts, rewards, strict=True):
        rollout.reward = reward
