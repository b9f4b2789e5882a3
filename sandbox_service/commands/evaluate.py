"""`eval`: a model on a set of questions, with the tool."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import Any

from sandbox_service.client import AsyncSandboxClient
from sandbox_service.errors import SetupError
from sandbox_service.integrations import evaluate as evaluation
from sandbox_service.integrations.episode import Bounds


def evaluate(options: argparse.Namespace) -> int:
    if bool(options.endpoint) == bool(options.folder):
        raise SetupError("say which model: --endpoint URL or --folder PATH, one of them")
    if options.endpoint and not options.model:
        raise SetupError("say which model the endpoint is to run: --model NAME")
    for name in ("samples", "turns", "max_tokens", "at_once"):
        if getattr(options, name) < 1:
            raise SetupError(f"--{name.replace('_', '-')} must be at least 1")
    questions = evaluation.load(Path(options.data))
    found = asyncio.run(_run(options, questions[: options.limit or None]))
    print(json.dumps(found, indent=2))
    return 1 if found["lost"] else 0


async def _run(options: argparse.Namespace, questions: list[evaluation.Question]) -> dict[str, Any]:
    bounds = Bounds(options.max_tokens, options.turns, options.response_chars, options.wall_s)
    async with AsyncSandboxClient(options.service, api_key=options.service_key) as sandbox:
        if options.endpoint:
            key = os.environ.get("OPENAI_API_KEY")
            play = evaluation.endpoint(options.endpoint, options.model, key, sandbox, bounds, options.temperature)
        else:
            play = evaluation.folder(options.folder, sandbox, bounds, options.temperature, options.template)
        samples, lost = await evaluation.sample_all(questions, options.samples, play, sandbox, options.at_once)
    if options.out:
        evaluation.write(samples, Path(options.out))
    return {"data": options.data, **evaluation.summary(samples, lost), "lost_because": lost[:5]}
