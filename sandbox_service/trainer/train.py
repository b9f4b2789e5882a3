"""The training loop: SFT, then stages of GRPO-RoC, evaluated between them, with the service in the loop.

Killed at any moment, the next start with the same folder goes on where it was: the weights after the last whole step,
the finished rollouts of the one under way (`checkpoint.py`, `journal.py`).
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch.optim import AdamW

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.client.tools import ToolCallError
from sandbox_service.errors import SetupError
from sandbox_service.models import Call
from sandbox_service.trainer.checkpoint import Lines, load_latest, open_run, owned, save_latest, save_policy
from sandbox_service.trainer.engine import LocalEngine
from sandbox_service.trainer.fleet import Fleet
from sandbox_service.trainer.given import NOTHING, Given
from sandbox_service.trainer.groups import Group, play_groups
from sandbox_service.trainer.inference import Engine
from sandbox_service.trainer.interrupts import at_once
from sandbox_service.trainer.measure import by_family, describe, describe_kept, interval, scores
from sandbox_service.trainer.model import Policy
from sandbox_service.trainer.problems import plans, problems
from sandbox_service.trainer.prompts import TEMPLATES, first_turn
from sandbox_service.trainer.recipe import Recipe, Sft, Stage
from sandbox_service.trainer.records import Problem
from sandbox_service.trainer.rollout import Play, Rules
from sandbox_service.trainer.sft import train_sft
from sandbox_service.trainer.step import choose, update
from sandbox_service.trainer.tokens import Tokens
from sandbox_service.trainer.tools import Tools, Verifier
from sandbox_service.trainer.traces import Trace, conversation, encode, make_traces, text

Say = Callable[[str], None]


def use_threads(count: int) -> None:
    """One by default: the service wants the other CPUs, and sums then do not depend on how they are split."""
    torch.set_num_threads(count)


async def train(
    recipe: Recipe, seed: int, folder: Path, sandbox: AsyncSandboxClient, say: Say, given: Given = NOTHING
) -> None:
    """Do whatever is left to do of a run. ServiceFault: the service lost too many rollouts; start again later."""
    recipe = replace(recipe, files=given.files)
    if not (folder / "run.json").exists():
        await sandbox.cancel_label("run", uuid.uuid4().hex)  # nobody's: where no service answers, no folder is made
    with owned(folder):
        run = open_run(folder, recipe, seed)
        if left := await sandbox.cancel_label("run", run):
            say(f"cancelled {left} calls that an earlier start of {run} had left")
        if not (folder / "sft").exists():
            await start(recipe, seed, folder, sandbox, run, say, given)
        await Training(recipe, seed, folder, sandbox, run, say, given).run()


async def start(
    recipe: Recipe,
    seed: int,
    folder: Path,
    sandbox: AsyncSandboxClient,
    run: str,
    say: Say,
    given: Given,
) -> None:
    """The policy that RL starts from: of a folder or from nothing, after SFT. A folder without given conversations
    had its SFT already."""
    traces = [conversation(messages) for messages in given.conversations]
    if isinstance(recipe.base, str):
        try:
            policy, tokens = Policy.load(Path(recipe.base)), Tokens.load(Path(recipe.base))
        except ValueError as error:
            raise SetupError(f"{recipe.base} cannot be trained here: {error}") from error
    else:
        traces = traces or await _own_traces(recipe, seed, sandbox, run, say)
        tokens = Tokens.train(map(text, traces), recipe.base.vocabulary)
        torch.manual_seed(seed)
        policy = Policy(replace(recipe.base, vocabulary=tokens.size))
    if traces:
        with at_once():
            _sft(policy, tokens, traces, recipe.sft, seed, say)
    save_policy(folder / "sft", policy, tokens)


async def _own_traces(recipe: Recipe, seed: int, sandbox: AsyncSandboxClient, run: str, say: Say) -> list[Trace]:
    tools, labels = Tools(sandbox, recipe.rl.tool_wall_s, recipe.rl.response_chars), {"run": run, "step": "sft"}

    async def output(call: Call | ToolCallError) -> str:
        return (await tools.run(call, labels))[1]

    say("making the traces of the SFT; their tool calls run in the service")
    return await make_traces(plans(seed, recipe.sft.traces), TEMPLATES[recipe.template], output)


def _sft(policy: Policy, tokens: Tokens, traces: list[Trace], recipe: Sft, seed: int, say: Say) -> None:
    def report(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0 or step == steps:
            say(f"SFT step {step}/{steps}: loss {loss:.4f}")

    examples, longest = [encode(trace, tokens) for trace in traces], policy.shape.positions
    fitting = [example for example in examples if len(example[0]) <= longest]
    if left := len(examples) - len(fitting):
        say(
            f"SFT: {left} of {len(examples)} conversations have more than the model's {longest} tokens and are left out"
        )
    if not fitting:
        raise SetupError(f"no conversation fits the model's {longest} tokens: there is nothing to learn")
    train_sft(policy, fitting, recipe, seed, report)


def local_engines(policy: Policy, recipe: Recipe) -> Engine:
    """One engine, or several behind the scheduler."""
    rl = recipe.rl
    engines = [LocalEngine(policy, rl.kv_tokens, name=f"local-{n}") for n in range(rl.engines)]
    if len(engines) == 1:
        return engines[0]
    return Fleet(rl.scheduling, _longest(recipe), engines)


def _longest(recipe: Recipe) -> int:
    """Of all responses, in tokens."""
    return max(recipe.evaluation.max_tokens, *(stage.max_tokens for stage in recipe.rl.stages))


class Training:
    """The RL of one run."""

    def __init__(
        self,
        recipe: Recipe,
        seed: int,
        folder: Path,
        sandbox: AsyncSandboxClient,
        run: str,
        say: Say,
        given: Given,
    ) -> None:
        self.recipe, self.seed, self.folder, self.say = recipe, seed, folder, say
        self.tokens, self.policy = Tokens.load(folder / "sft"), Policy.load(folder / "sft")
        self.metrics, self.evaluations = Lines(folder / "metrics.jsonl"), Lines(folder / "evaluations.jsonl")
        self.sandbox = sandbox
        tools = Tools(sandbox, recipe.rl.tool_wall_s, recipe.rl.response_chars)
        engine = local_engines(self.policy, recipe)
        template = TEMPLATES[recipe.template]
        self.how = Play(run, seed, self.tokens, template, tools, Verifier(sandbox), engine)
        self.problems, self.held_out = self._fitting(given.problems), self._fitting(given.held_out)

    def _fitting(self, given: Sequence[Problem]) -> list[Problem]:
        """Those whose prompts leave room for the longest response."""
        room = min(self.recipe.rl.kv_tokens, self.policy.shape.positions) - _longest(self.recipe)
        template = self.how.template
        fit = [one for one in given if len(self.tokens.encode(first_turn(template, one.question))) <= room]
        if left := len(given) - len(fit):
            self.say(f"{left} of {len(given)} problems have prompts of more than {room} tokens and are left out")
        if given and not fit:
            raise SetupError(f"no problem's prompt has at most {room} tokens, what the model has beside a response")
        return fit

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
        with at_once():
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
        pool = self.problems
        if not pool and not stage.problems:
            return lambda step: problems(stage.data, f"{self.seed}/{step}", count)
        pool = pool or problems(stage.data, f"{self.seed}/{stage.name}", stage.problems)
        if stage.drop_solved:
            played, _ = await self._play(f"filter-{stage.name}", pool, stage.drop_solved, self._rules(stage))
            solved = [found == 1.0 for found in scores(played)]
            pool = [problem for problem, done in zip(pool, solved, strict=True) if not done]
            self.say(f"stage {stage.name}: {sum(solved)} of {len(solved)} problems are solved")
            if not pool:
                raise SetupError(f"stage {stage.name}: all of its problems are solved already: give harder ones")
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
        asked = self.held_out[: wanted.problems] or problems(wanted.data, 0, wanted.problems)
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
