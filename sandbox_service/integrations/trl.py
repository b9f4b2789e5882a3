"""TRL 1.16: RoC as a `rollout_func` of its GRPOTrainer, and the tool for its own tool loop.

    rollouts = RocRollouts("http://127.0.0.1:8000", answers={question: answer, ...}, bounds=Bounds(max_tokens=4096))
    trainer = GRPOTrainer(model, reward_funcs=given_reward, rollout_func=rollouts, args=..., train_dataset=...)

Per prompt 2G rollouts are played, G = `num_generations` are kept. TRL's batches have a fixed shape, so a group without
a signal is not dropped: G of it stay, all of one reward, with advantage 0. A rollout that the service could not run
is lost; if fewer than G are left, masked copies fill the group.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.client.tools import TOOL_NAME, ToolCallError, to_call, to_text
from sandbox_service.errors import SandboxError, ServiceFault
from sandbox_service.integrations import episode
from sandbox_service.integrations.episode import Bounds, Episode, Generate, HuggingFace
from sandbox_service.integrations.local import Batches
from sandbox_service.integrations.roc import Candidate, choose
from sandbox_service.trainer.prompts import TEMPLATES
from sandbox_service.trainer.roc import Selection


class _Lost:
    """In place of the text of a call that the service could not run: ends the run, which can go on from a checkpoint.

    TRL gathers what async tools raise, a BaseException too, and makes text for the model of it. That it does outside of
    any `try`, so the error is raised there.
    """

    def __init__(self, error: SandboxError) -> None:
        self._error = error

    def __str__(self) -> str:
        raise self._error


def given_reward(reward: Sequence[float], **_: Any) -> list[float]:
    """The reward function for RocRollouts: what it verified already."""
    return list(reward)


class RocRollouts:
    """A `rollout_func`. `answers`: the reference of each question (TRL hands over prompts and no other column).

    `generate`: an engine of yours; without it the trainer's model samples, in batches, with its `temperature`.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        answers: Mapping[str, str],
        bounds: Bounds,
        *,
        api_key: str | None = None,
        template: str = "paper",
        selection: Selection | None = None,
        generate: Generate | None = None,
    ) -> None:
        self._url, self._api_key = url, api_key
        self._answers, self._bounds, self._template = answers, bounds, TEMPLATES[template]
        self._selection, self._generate = selection, generate
        self.metrics: dict[str, float] = {}
        """Of the last batch: RoC's figures and `lost`, the rollouts that the service could not run."""

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        """One row per prompt; they come repeated, the copies of one behind each other."""
        return asyncio.run(self._rows(prompts, trainer))

    async def _rows(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        train = trainer.model.training
        size = trainer.num_generations if train else 1
        questions = [_question(prompt) for prompt in prompts[::size]]
        codec = HuggingFace(trainer.processing_class)
        generate = self._generate or _engine(trainer)
        async with AsyncSandboxClient(self._url, api_key=self._api_key) as sandbox:

            async def one(question: str, labels: dict[str, str]) -> tuple[Episode, float] | None:
                try:
                    played = await episode.play(
                        question, self._template, self._bounds, codec, generate, sandbox, labels
                    )
                    return played, await episode.reward(sandbox, played.answer, self._answers[question])
                except ServiceFault:
                    return None

            step = str(trainer.state.global_step)
            labels = [{"step": step, "group": str(index)} for index in range(len(questions))]
            wanted = 2 * size if train else 1
            plays = [
                one(question, label) for question, label in zip(questions, labels, strict=True) for _ in range(wanted)
            ]
            found = await asyncio.gather(*plays)
        groups = [[each for each in found[at : at + wanted] if each] for at in range(0, len(found), wanted)]
        if not all(groups):
            raise ServiceFault("the service could run no rollout of a prompt: is it there, and has it workers?")
        how = self._selection or Selection(keep=size)
        candidates = {
            str(index): [Candidate(reward, played.facts()) for played, reward in group]
            for index, group in enumerate(groups)
        }
        chosen, self.metrics = choose(candidates, how, step) if train else ({}, {})
        self.metrics["lost"] = float(found.count(None))
        columns: dict[str, list[Any]] = {"prompt_ids": [], "completion_ids": [], "env_mask": [], "reward": []}
        for index, group in enumerate(groups):
            kept = [group[at] for at in chosen.get(str(index), range(min(size, len(group))))]
            _fill(columns, kept, size)
        return {**columns, "logprobs": None}  # type: ignore[dict-item]


def _fill(columns: dict[str, list[Any]], kept: list[tuple[Episode, float]], size: int) -> None:
    """Add the rows of a group; copies that nothing is learned from stand in for lost rollouts."""
    mean = fmean(reward for _, reward in kept)
    for index in range(size):
        played, reward = kept[index % len(kept)]
        copy = index >= len(kept)
        columns["prompt_ids"].append(played.prompt)
        columns["completion_ids"].append(played.response)
        columns["env_mask"].append([0] * len(played.mask) if copy else played.mask)
        columns["reward"].append(mean if copy else reward)


def _engine(trainer: Any) -> Generate:
    model = trainer.accelerator.unwrap_model(trainer.model)
    return Batches(model, trainer.processing_class, trainer.args.temperature).generate


def python_tool(
    url: str | Sequence[str], *, api_key: str | None = None, wall_s: float = 4.0, max_chars: int = 1000
) -> Callable[[str, str], Awaitable[object]]:
    """An async tool for `GRPOTrainer(tools=[...])`: TRL runs the calls of one turn of one rollout together."""

    async def execute_python_code_with_standard_io(code: str, input: str) -> object:
        """Execute Python code with standard input and capture standard output.

        Args:
            code: A string containing Python code to be executed. It can read standard input with input().
            input: A string that will be provided as standard input to the code when it executes.

        Returns:
            What the code wrote to standard output, or the error message if it raised an exception.
        """
        try:
            call = to_call(
                {"name": TOOL_NAME, "arguments": {"code": code, "input": input}},
                limits={"wall_s": wall_s}, priority="batch",
            )  # fmt: skip
        except ToolCallError as error:
            return str(error)
        try:
            return to_text(episode.judged(await episode.client(url, api_key).run(call)), max_chars=max_chars)
        except SandboxError as error:
            return _Lost(error)

    return execute_python_code_with_standard_io


def _question(prompt: Any) -> str:
    """The text of a prompt, or of its one user message."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) != 1 or prompt[0]["role"] != "user" or not isinstance(prompt[0]["content"], str):
        raise ValueError("a prompt must be a string or one user message: the question; the template adds the rest")
    return str(prompt[0]["content"])
