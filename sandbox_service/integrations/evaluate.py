"""Evaluation with tools: problems, samples of each by a model, answers verified, figures with intervals.

The paper's protocol (section 5): 16 samples, temperature 0.6, 30,720 tokens, T = 30 turns. A model is an
OpenAI-compatible endpoint (vLLM, SGLang), which gets the tool in its own format, or a Hugging Face folder in the
paper's. A sample that the service or the endpoint lost is counted as `lost` and is in no figure.
"""

from __future__ import annotations

import asyncio
import csv
import json
import math
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import httpx

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.client.tools import TOOL, ToolCallError, to_call, to_text
from sandbox_service.errors import InvalidCall, ServiceFault, SetupError
from sandbox_service.integrations import episode
from sandbox_service.integrations.episode import Bounds
from sandbox_service.trainer import prompts
from sandbox_service.trainer.records import PARSE_ERROR, StopReason
from sandbox_service.trainer.rewards import ERRORS
from sandbox_service.trainer.rows import read_rows

_Z95 = 1.959964
_ATTEMPTS = 4


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """One finished attempt at a question."""

    id: str
    sample: int
    correct: bool
    answer: str | None
    calls: int
    errors: int
    """Calls that failed, for reasons of the code or of their form."""
    tokens: int
    """That the model wrote."""
    turns: int
    stop: str


Play = Callable[[Question, dict[str, str]], Awaitable[tuple[str | None, list[str], int, int, StopReason]]]
"""Plays one sample: its answer, the outcomes of its calls, tokens, turns, and why it ended."""


def load(path: Path) -> list[Question]:
    """Read `problem` (or `question`) and `answer`, or verl's rows, of a .jsonl or .parquet; or GPQA's CSV."""
    if not path.exists():
        raise SetupError(f"there is no {path}")
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [_gpqa(index, row) for index, row in enumerate(csv.DictReader(file))]
    found = []
    for number, line in enumerate(_lines(path), 1):
        try:
            found.append(_row(number, json.loads(line)))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise SetupError(f"{path}:{number}: not a JSON object with `problem` and `answer` ({error})") from None
    if not found:
        raise SetupError(f"{path} has no questions")
    return found


def _lines(path: Path) -> list[str]:
    """The rows as JSON, one a line."""
    if path.suffix != ".parquet":
        return path.read_text().splitlines()
    return [json.dumps(row) for _, row in read_rows(path)]


def _row(number: int, row: dict[str, Any]) -> Question:
    if "reward_model" in row:  # verl's
        return Question(str(number), str(row["prompt"][-1]["content"]), str(row["reward_model"]["ground_truth"]))
    text = row["problem"] if "problem" in row else row["question"]
    return Question(str(row.get("id", number)), str(text), str(row["answer"]))


def write_unsolved(data: Path, samples: Sequence[Sample], path: Path) -> None:
    """Write the lines of the data that not every sample got right (paper 4.3 drops the others)."""
    found: dict[str, list[bool]] = defaultdict(list)
    for one in samples:
        found[one.id].append(one.correct)
    solved = {id for id, right in found.items() if all(right)}
    rows = zip(_lines(data), load(data), strict=True)
    path.write_text("".join(line + "\n" for line, question in rows if question.id not in solved))


def _gpqa(index: int, row: dict[str, str]) -> Question:
    """GPQA's row as multiple choice. The order of the choices depends on the question alone."""
    try:
        right = row["Correct Answer"].strip()
        choices = [right, *(row[f"Incorrect Answer {number}"].strip() for number in (1, 2, 3))]
        question = row["Question"].strip()
    except KeyError as error:
        raise SetupError(f"not GPQA's CSV: it has no column {error}") from None
    random.Random(question).shuffle(choices)
    listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip("ABCD", choices, strict=True))
    text = f"{question}\n\n{listed}\n\nAnswer with the letter of the right choice."
    return Question(row.get("Record ID") or str(index + 1), text, "ABCD"[choices.index(right)])


def endpoint(
    http: httpx.AsyncClient, url: str, model: str, sandbox: AsyncSandboxClient, bounds: Bounds, temperature: float
) -> Play:
    """A model behind `POST {url}/chat/completions`, with the tool in `tools`."""
    before = prompts.TEMPLATES["paper"].before

    async def ask(messages: list[dict[str, Any]], room: int) -> tuple[dict[str, Any], str, int]:
        body = {
            "model": model, "messages": messages, "tools": [TOOL], "temperature": temperature, "max_tokens": room,
        }  # fmt: skip
        for attempt in range(_ATTEMPTS):
            try:
                answer = await http.post(f"{url.rstrip('/')}/chat/completions", json=body)
                if answer.status_code < 500 and answer.status_code != 429:
                    break
            except httpx.TransportError as error:
                if attempt + 1 == _ATTEMPTS:
                    raise ServiceFault(f"{url}: {error}") from error
            await asyncio.sleep(0.5 * 2**attempt)
        if answer.status_code != 200:
            raise ServiceFault(f"{url} answered {answer.status_code}: {answer.text[:200]}")
        choice, usage = answer.json()["choices"][0], answer.json().get("usage") or {}
        return choice["message"], choice.get("finish_reason") or "stop", int(usage.get("completion_tokens") or 0)

    async def run(tool_call: Any, labels: dict[str, str]) -> tuple[str, str]:
        try:
            call = to_call(tool_call, limits={"wall_s": bounds.wall_s}, labels=labels, priority="batch")
        except (ToolCallError, InvalidCall) as error:
            return PARSE_ERROR, str(error)
        result = episode.judged(await sandbox.run(call))
        return result.status.value, to_text(result, max_chars=bounds.response_chars)

    async def play(question: Question, labels: dict[str, str]) -> tuple[str | None, list[str], int, int, StopReason]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": before + question.text}]
        outcomes: list[str] = []
        tokens = turns = 0
        while True:
            message, reason, written = await ask(messages, bounds.max_tokens - tokens)
            tokens, turns, text = tokens + written, turns + 1, message.get("content") or ""
            asked = message.get("tool_calls") or prompts.call_bodies(text)
            if reason == "length" or tokens >= bounds.max_tokens:
                return None, outcomes, tokens, turns, StopReason.LENGTH
            if not asked:
                return _answer(text), outcomes, tokens, turns, StopReason.DONE
            if turns >= bounds.turns:
                return None, outcomes, tokens, turns, StopReason.TURNS
            results = await asyncio.gather(*(run(call, labels) for call in asked))
            outcomes += [outcome for outcome, _ in results]
            native = bool(message.get("tool_calls"))
            messages.append({"role": "assistant", "content": text} | ({"tool_calls": asked} if native else {}))
            if native:
                for call, (_, shown) in zip(asked, results, strict=True):
                    messages.append({"role": "tool", "tool_call_id": call.get("id", ""), "content": shown})
            else:
                shown = "".join(f"<tool_response>{shown}</tool_response>" for _, shown in results)
                messages.append({"role": "user", "content": shown})

    return play


def _answer(text: str) -> str | None:
    return prompts.extract_answer(text) or prompts.last_boxed(text)


def folder(path: str, sandbox: AsyncSandboxClient, bounds: Bounds, temperature: float, template: str) -> Play:
    """A Hugging Face folder, in this process and in the paper's format."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from sandbox_service.integrations.local import Batches

    tokenizer = AutoTokenizer.from_pretrained(path)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(path)
    engine = Batches(model.eval(), tokenizer, temperature)
    codec = episode.HuggingFace(tokenizer)

    async def play(question: Question, labels: dict[str, str]) -> tuple[str | None, list[str], int, int, StopReason]:
        found = await episode.play(
            question.text, prompts.TEMPLATES[template], bounds, codec, engine.generate, sandbox, labels
        )
        return found.answer, found.outcomes, sum(found.mask), found.turns, found.stop

    return play


async def sample_all(
    questions: Sequence[Question], samples: int, play: Play, sandbox: AsyncSandboxClient, at_once: int
) -> tuple[list[Sample], list[str]]:
    """Play every sample of every question; return those that ended, and why the others are lost."""
    slots = asyncio.Semaphore(at_once)

    async def one(question: Question, number: int) -> Sample | str:
        async with slots:
            labels = {"question": question.id[:100], "sample": str(number)}
            try:
                answer, outcomes, tokens, turns, stop = await play(question, labels)
                correct = bool(await episode.reward(sandbox, answer, question.answer))
            except ServiceFault as error:
                return f"{question.id}/{number}: {error}"
            errors = sum(outcome in ERRORS for outcome in outcomes)
            return Sample(question.id, number, correct, answer, len(outcomes), errors, tokens, turns, stop.value)

    found = await asyncio.gather(*(one(question, number) for question in questions for number in range(samples)))
    return [one for one in found if isinstance(one, Sample)], [one for one in found if isinstance(one, str)]


def summary(samples: Sequence[Sample], lost: Sequence[str]) -> dict[str, Any]:
    """The figures: each share with a 95 % interval over questions, whose samples are not independent."""
    by_question: dict[str, list[bool]] = defaultdict(list)
    for one in samples:
        by_question[one.id].append(one.correct)
    if not by_question:
        raise ServiceFault(f"all {len(lost)} samples were lost, the first: {lost[0] if lost else 'there were none'}")
    most = min(len(found) for found in by_question.values())
    shares = {f"avg@{most}": _interval([fmean(found) for found in by_question.values()])}
    at = 1
    while at <= most:
        shares[f"pass@{at}"] = _interval([_pass_at(at, found) for found in by_question.values()])
        at *= 2
    calls = sum(one.calls for one in samples)
    return {
        "questions": len(by_question),
        "samples": len(samples),
        "lost": len(lost),
        **shares,
        "tokens": fmean(one.tokens for one in samples),
        "turns": fmean(one.turns for one in samples),
        "calls": calls / len(samples),
        "call_errors": sum(one.errors for one in samples) / calls if calls else 0.0,
        "truncated": fmean(one.stop != StopReason.DONE.value for one in samples),
        "no_answer": fmean(one.answer is None for one in samples),
    }


def _pass_at(k: int, found: Sequence[bool]) -> float:
    """The unbiased estimate of Chen et al. 2021 (arXiv 2107.03374): 1 - C(n - c, k) / C(n, k)."""
    return 1.0 - math.comb(len(found) - sum(found), k) / math.comb(len(found), k)


def _interval(shares: Sequence[float]) -> dict[str, float]:
    mean = fmean(shares)
    half = _Z95 * stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else math.nan
    low, high = max(0.0, mean - half), min(1.0, mean + half)
    return {"mean": mean} if math.isnan(half) else {"mean": mean, "low": low, "high": high}


def write(samples: Sequence[Sample], path: Path) -> None:
    path.write_text("".join(json.dumps(asdict(one)) + "\n" for one in samples))
